"""A page to look at of a prepared data set: what `prepare_data.py show` writes."""

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax import html as page
from aia_jax.data.sampling import frame_indices
from aia_jax.shards.dataset_info import DatasetInfo, flip_pairs, label_features, open_dataset
from aia_jax.shards.frames import read_pictures
from aia_jax.shards.reader import DamagedRecord, ShardReader, open_split
from aia_jax.shards.tfrecord import atomic_file

_FRAMES = 8  # of a film strip
_MIRROR_FRAMES = 4
_MIRRORED = 4  # clips that are shown beside their mirror image
_BINS = 32
_LISTED = 500
_ADVICE = "Only the index was looked at, and the clips on this page; <code>prepare_data.py verify</code> reads everything."


def write_page(folder: Path, path: Path, clips: int, seed: int, label: str | None = None) -> int:
    """Writes the page, whole or not at all.

    Args:
        folder: the prepared data set.
        path: of the page.
        clips: film strips of each split.
        seed: chooses them.
        label: feature whose classes are shown; None: the first.

    Returns:
        Bytes of the page.

    Raises:
        DataError: if the folder is no prepared data set, has no such label, or shards are missing.
    """
    info = open_dataset(folder, label or next(iter(label_features(folder)), "label"))
    readers = {split: open_split(folder, split) for split in info.splits}
    manifest = _manifest(folder)
    damaged: list[str] = []
    body = [_heading(info, manifest, readers)]
    for split, reader in readers.items():
        body += [
            f"<h2>Split {escape(split)}</h2>",
            _strips(info, reader, split, clips, seed, damaged),
            _distributions(info, reader),
        ]
    body += [
        "<h2>Mirrored clips</h2>",
        _mirrored(info, readers, seed, damaged),
        "<h2>Damaged and missing</h2>",
    ]
    body.append(_damage(folder, readers, damaged))
    content = page.document(f"{info.name}: a prepared data set", "\n".join(body)).encode(
        errors="backslashreplace"
    )
    with atomic_file(path) as file:
        file.write(content)
    return len(content)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    return json.loads(path.read_bytes()) if path.is_file() else {}  # TFDS writes none


def _heading(
    info: DatasetInfo, manifest: Mapping[str, Any], readers: Mapping[str, ShardReader]
) -> str:
    rows = []
    for split, reader in readers.items():
        index, facts = reader.index, manifest.get("splits", {}).get(split, {})
        sizes = Counter(zip(index.height.tolist(), index.width.tolist(), strict=True)).most_common()
        size = "{}×{}".format(*sizes[0][0]) + (
            f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""
        )
        numbers = (
            len(index),
            facts.get("expected"),
            facts.get("missing"),
            facts.get("bad"),
            int(index.damaged.sum()),
        )
        frames, megabytes = (
            int(index.num_frames.sum()),
            sum(shard.size for shard in index.shards) / 1e6,
        )
        cells = ["–" if number is None else f"{number:,}" for number in numbers]
        rows.append(
            [split, *cells, f"{frames:,}", size, f"{megabytes:,.1f}", f"{len(index.shards):,}"]
        )
    columns = (
        "split",
        "videos",
        "expected",
        "missing",
        "unreadable",
        "damaged",
        "frames",
        "height×width",
        "MB",
        "shards",
    )
    classes = f"{len(info.class_names):,} classes of the label “{info.label_feature}”"
    said = [f"<h1>{escape(info.name)}</h1>", f'<p class="soft">{escape(classes)}</p>']
    if manifest:
        said.append(
            f'<p class="soft">made by <code>{escape(manifest.get("command", ""))}</code></p>'
        )
    said += [f'<p class="warn">{escape(remark)}</p>' for remark in manifest.get("remarks", [])]
    return "".join(said) + page.table(columns, rows)


def _strips(
    info: DatasetInfo, reader: ShardReader, split: str, clips: int, seed: int, damaged: list[str]
) -> str:
    whole = np.flatnonzero(~reader.index.damaged)
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    chosen = rng.permutation(whole)[:clips].tolist()
    figures = (_clip(info, reader, record, _FRAMES, damaged) for record in chosen)
    title = f"{len(chosen)} of {len(whole):,} clips, by chance (seed {seed}); {_FRAMES} frames of each, as the protocol “center” takes them"
    return page.card(title, "".join(figures))


def _clip(
    info: DatasetInfo,
    reader: ShardReader,
    record: int,
    frames: int,
    damaged: list[str],
    mirror_label: int | None = None,
) -> str:
    """A film strip with its class; with `mirror_label` mirrored, under that class."""
    index = reader.index
    label = int(index.labels[info.label_feature][record])
    count, fps = int(index.num_frames[record]), float(index.fps[record])
    try:
        pictures = read_pictures(reader, record, frame_indices(count, frames, "center")[0].tolist())
    except DamagedRecord as damage:
        damaged.append(str(damage))
        return f'<p class="warn">{escape(str(damage))}</p>'
    shown = label if mirror_label is None else mirror_label
    name = info.class_names[shown] if 0 <= shown < len(info.class_names) else "no such class"
    words = [
        index.video_id(record),
        f"{count:,} frames" + (f" at {fps:.3g} fps, {count / fps:.1f} s" if fps else ""),
    ]
    if mirror_label is not None:
        pictures, words = [picture[:, ::-1] for picture in pictures], ["mirrored"]
    return page.figure(
        page.film_strip(pictures, f"{len(pictures)} frames of {index.video_id(record)}"),
        name,
        f"label {shown}",
        words,
    )


def _distributions(info: DatasetInfo, reader: ShardReader) -> str:
    index = reader.index
    whole = ~index.damaged
    labels = index.labels.get(info.label_feature, np.full(len(index), -1))
    per_class = np.bincount(
        labels[(labels >= 0) & (labels < len(info.class_names))], minlength=len(info.class_names)
    )
    empty = int((per_class == 0).sum())
    spread = f"{per_class.min():,} to {per_class.max():,}" + (
        f"; {empty:,} have none" if empty else ""
    )
    rates = Counter(
        f"{rate:.3g}" if rate else "unknown" for rate in index.fps[whole].tolist()
    ).most_common(12)
    rates.sort(
        key=lambda entry: (entry[0] == "unknown", float(entry[0]) if entry[0] != "unknown" else 0)
    )
    names = [rate for rate, _ in rates]
    fps = page.histogram(
        "Frames a second", [count for _, count in rates], names, dict(enumerate(names))
    )
    classes = page.class_list(
        f"Videos of each class: {spread}", info.class_names, per_class.tolist()
    )
    return f'<div class="columns">{_lengths(index.num_frames[whole])}{fps}</div>{classes}'


def _lengths(num_frames: np.ndarray) -> str:
    """Up to the 99th percentile in equal steps; what is longer is the last bar."""
    if not len(num_frames):
        return page.card("Frames of a video", "no videos")
    first, last = int(num_frames.min()), int(np.percentile(num_frames, 99))
    wanted = int(np.clip(2 * np.sqrt(len(num_frames)), 6, _BINS))
    step = max(1, -(-(last - first + 1) // wanted))
    bins = (last - first) // step + 1
    places = np.minimum((num_frames - first) // step, bins)
    counts = np.bincount(
        places, minlength=bins
    ).tolist()  # one more where a video is longer than the last bar's
    starts = [first + step * k for k in range(len(counts))]
    names = [
        f"{start} frames" if step == 1 else f"{start} to {start + step - 1} frames"
        for start in starts
    ]
    ticks = {k: f"{starts[k]}" for k in sorted({0, len(counts) // 2, bins - 1})}
    if len(counts) > bins:
        names[-1], ticks[bins] = (
            f"{starts[-1]} to {num_frames.max()} frames",
            f"to {num_frames.max()}",
        )
        if len(counts) > 6:
            ticks.pop(bins - 1, None)
    title = f"Frames of a video: median {np.median(num_frames):,.0f}, {num_frames.min():,} to {num_frames.max():,}"
    return page.histogram(title, counts, names, ticks)


def _mirrored(
    info: DatasetInfo, readers: Mapping[str, ShardReader], seed: int, damaged: list[str]
) -> str:
    rule = flip_pairs(info.class_names)
    never = [
        name for name, partner in zip(info.class_names, rule.partner, strict=True) if partner < 0
    ]
    pairs = f"{len(rule.pairs)} pair{'s' * (len(rule.pairs) != 1)} of classes"
    said = [
        f"<p>When training mirrors a clip, {pairs} swap their labels; all others keep theirs.</p>"
    ]
    said += [
        f'<p class="warn">never mirrored, for want of a partner: {escape(name)}</p>'
        for name in never
    ]
    parts = [page.card("The rule", "".join(said))]
    if rule.pairs:
        parts.append(
            page.lines(
                "Pairs",
                [f"{a} {info.class_names[a]} ↔ {b} {info.class_names[b]}" for a, b in rule.pairs],
            )
        )
    swapped, same = (
        [k for pair in rule.pairs for k in pair],
        np.flatnonzero(rule.partner == np.arange(len(info.class_names))).tolist(),
    )
    rows = []
    for reader, record in _examples(info, readers, swapped, same, seed):
        mirror = int(rule.partner[int(reader.index.labels[info.label_feature][record])])
        both = [
            _clip(info, reader, record, _MIRROR_FRAMES, damaged, label) for label in (None, mirror)
        ]
        rows.append(f'<div class="pair">{both[0]}{both[1]}</div>')
    if rows:
        parts.append(
            page.card(
                "A clip, and its mirror image with the label that training gives it", "".join(rows)
            )
        )
    return "".join(parts)


def _examples(
    info: DatasetInfo,
    readers: Mapping[str, ShardReader],
    swapped: Sequence[int],
    same: Sequence[int],
    seed: int,
) -> list[tuple[ShardReader, int]]:
    """Clips of classes that swap, then one of a class that does not."""
    rng = np.random.default_rng([seed, 1])
    found = []
    for labels, most in ((list(swapped), _MIRRORED - 1), (rng.permutation(same).tolist(), 1)):
        taken = 0
        for label in labels:
            for reader in readers.values():
                records = np.flatnonzero(
                    (reader.index.labels[info.label_feature] == label) & ~reader.index.damaged
                )
                if len(records) and taken < most:
                    found.append((reader, int(rng.choice(records))))
                    taken += 1
                    break
    return found


def _damage(folder: Path, readers: Mapping[str, ShardReader], met: Sequence[str]) -> str:
    listed = [
        f"{reader.describe(record)}: {why}"
        for reader in readers.values()
        for record, why in reader.index.damage.items()
    ]
    listed += met
    bad = folder / "bad.txt"
    unread = (
        [line.replace("\t", "  —  ") for line in bad.read_text(errors="replace").splitlines()]
        if bad.is_file()
        else []
    )
    parts = []
    for title, texts in (("Damaged records", listed), ("Not prepared (bad.txt)", unread)):
        if texts:
            parts.append(page.lines(f"{title}: {len(texts):,}", texts[:_LISTED]))
        else:
            parts.append(page.card(title, '<p class="soft">none</p>'))
    return "".join(parts) + f'<p class="soft">{_ADVICE}</p>'
