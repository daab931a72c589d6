"""The charts of the page that `prepare_data.py show` writes: lengths, frame rates and classes."""

from collections import Counter

import numpy as np

from aia_jax import html
from aia_jax.shards.dataset_info import DatasetInfo
from aia_jax.shards.index import Index

_MOST_BINS = 32  # of the lengths
_MOST_RATES = 12
_LAST_PERCENTILE = 99  # of the lengths; longer videos share the last bar


def length_chart(index: Index) -> str:
    """How many videos of a split have how many frames.

    The bars cover the lengths up to the 99th percentile in equal steps; one more bar counts all
    videos that are longer.
    """
    num_frames = index.num_frames[~index.damaged]
    if not len(num_frames):
        return html.card("Frames of a video", "no videos")
    shortest, longest = int(num_frames.min()), int(num_frames.max())
    last = int(np.percentile(num_frames, _LAST_PERCENTILE))
    wanted = int(np.clip(2 * np.sqrt(len(num_frames)), 6, _MOST_BINS))
    step = max(1, -(-(last - shortest + 1) // wanted))
    bins = (last - shortest) // step + 1
    video_bins = np.minimum((num_frames - shortest) // step, bins)
    # Without longer videos there are `bins` counts, else one more.
    counts = np.bincount(video_bins, minlength=bins).tolist()
    starts = [shortest + step * k for k in range(len(counts))]
    names = [
        f"{start} frames" if step == 1 else f"{start} to {start + step - 1} frames"
        for start in starts
    ]
    ticks = {k: f"{starts[k]}" for k in sorted({0, len(counts) // 2, bins - 1})}
    if len(counts) > bins:
        names[-1], ticks[bins] = f"{starts[-1]} to {longest} frames", f"to {longest}"
        if len(counts) > 6:
            ticks.pop(bins - 1, None)  # it would touch the last one
    title = f"Frames of a video: median {np.median(num_frames):,.0f}, {shortest:,} to {longest:,}"
    return html.bar_chart(title, counts, names, ticks, "videos")


def rate_chart(index: Index) -> str:
    """How many videos of a split have which frame rate."""
    rates = Counter(
        f"{rate:.3g}" if rate else "unknown" for rate in index.fps[~index.damaged].tolist()
    ).most_common(_MOST_RATES)
    rates.sort(key=lambda entry: float("inf") if entry[0] == "unknown" else float(entry[0]))
    names = [rate for rate, _ in rates]
    counts = [count for _, count in rates]
    return html.bar_chart("Frames a second", counts, names, dict(enumerate(names)), "videos")


def class_chart(info: DatasetInfo, index: Index) -> str:
    """How many videos each class has in a split."""
    num_classes = len(info.class_names)
    labels = index.label_set(info.label_feature).values
    valid = labels[(labels >= 0) & (labels < num_classes)]
    counts = np.bincount(valid, minlength=num_classes)
    empty = int((counts == 0).sum())
    title = f"Videos of each class: {counts.min():,} to {counts.max():,}"
    title += f"; {empty:,} have none" if empty else ""
    return html.bar_list(title, info.class_names, counts.tolist())
