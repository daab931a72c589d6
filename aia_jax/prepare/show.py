"""The page that `prepare_data.py show` writes: a prepared data set to look at."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax import html
from aia_jax.data.flips import flip_pairs
from aia_jax.data.sampling import frame_indices
from aia_jax.files import atomic_file
from aia_jax.prepare.show_charts import class_chart, length_chart, rate_chart
from aia_jax.shards.class_names import notes_on_labels
from aia_jax.shards.dataset_info import DatasetInfo, label_features, open_dataset
from aia_jax.shards.frames import read_pictures
from aia_jax.shards.index import NO_LABEL, Index
from aia_jax.shards.manifest import BAD, read_manifest
from aia_jax.shards.reader import DamagedRecord, ShardReader, open_split

_FRAMES = 8  # of a film strip
_PAIR_FRAMES = 4  # of each of two film strips side by side
_MOST_PAIRS = 4  # clips that are shown beside their mirror image
_MOST_LISTED = 500  # lines of a list
_ADVICE = (
    "Only the index was looked at, and the clips on this page; "
    "<code>prepare_data.py verify</code> reads everything."
)


def write_page(folder: Path, path: Path, clips: int, seed: int, label: str | None = None) -> int:
    """Writes the page, completely or not at all.

    Args:
        folder: the prepared data set.
        path: of the page.
        clips: how many clips of each split are shown.
        seed: chooses them.
        label: the label feature whose classes are shown; None: the first.

    Returns:
        Bytes of the page.

    Raises:
        DataError: if the folder is no prepared data set, has no such label, or shards are missing.
    """
    info = open_dataset(folder, label or next(iter(label_features(folder)), "label"))
    readers = {split: open_split(folder, split) for split in info.splits}
    damaged: list[str] = []  # what the chapters find while they read clips
    body = [_heading(info, read_manifest(folder), readers)]
    for split, reader in readers.items():
        body += [
            f"<h2>Split {escape(split)}</h2>",
            _clips(info, reader, split, clips, seed, damaged),
            f'<div class="columns">{length_chart(reader.index)}{rate_chart(reader.index)}</div>'
            + class_chart(info, reader.index),
        ]
    body += ["<h2>Mirrored clips</h2>", _mirrored_clips(info, readers, seed, damaged)]
    body += ["<h2>Damaged and missing</h2>", _damage(folder, readers, damaged)]
    page = html.document(f"{info.name}: a prepared data set", "\n".join(body))
    content = page.encode(errors="backslashreplace")
    with atomic_file(path) as file:
        file.write(content)
    return len(content)


def _heading(
    info: DatasetInfo, manifest: Mapping[str, Any], readers: Mapping[str, ShardReader]
) -> str:
    """Name, command, remarks, and a table of the splits."""
    classes = f"{len(info.class_names):,} classes of the label “{info.label_feature}”"
    parts = [f"<h1>{escape(info.name)}</h1>", f'<p class="soft">{escape(classes)}</p>']
    if manifest:
        parts.append(
            f'<p class="soft">made by <code>{escape(manifest.get("command", ""))}</code></p>'
        )
    # Of classes, the manifest says what was found before some videos could not be read.
    remarks = dict.fromkeys([*manifest.get("remarks", []), *_notes_on_classes(info, readers)])
    parts += [f'<p class="warn">{escape(remark)}</p>' for remark in remarks]
    columns = ("split", "videos", "expected", "missing", "unreadable", "damaged")
    columns += ("frames", "height×width", "MB", "shards")
    facts = manifest.get("splits", {})
    rows = [_split_row(split, reader, facts.get(split, {})) for split, reader in readers.items()]
    return "".join(parts) + html.table(columns, rows)


def _notes_on_classes(info: DatasetInfo, readers: Mapping[str, ShardReader]) -> list[str]:
    """Names the classes that a split lacks."""
    labels = {
        split: reader.index.label_set(info.label_feature).values
        for split, reader in readers.items()
    }
    return notes_on_labels(info.class_names, labels)


def _labels(info: DatasetInfo, index: Index, record: int) -> list[int]:
    """The labels of a record, one or several; none if it is damaged."""
    return index.label_set(info.label_feature).entries(np.array([record]))[1].tolist()


def _split_row(split: str, reader: ShardReader, facts: Mapping[str, Any]) -> list[str]:
    """A split's row of the table; `facts` are those of the manifest, if there is one."""
    index = reader.index
    sizes = Counter(zip(index.height.tolist(), index.width.tolist(), strict=True)).most_common()
    others = f" and {len(sizes) - 1} more" if len(sizes) > 1 else ""
    counts = (
        len(index),
        facts.get("expected"),
        facts.get("missing"),
        facts.get("bad"),
        int(index.damaged.sum()),
    )
    return [
        split,
        *("–" if count is None else f"{count:,}" for count in counts),
        f"{int(index.num_frames.sum()):,}",
        "{}×{}".format(*sizes[0][0]) + others,
        f"{sum(shard.size for shard in index.shards) / 1e6:,.1f}",
        f"{len(index.shards):,}",
    ]


def _clips(
    info: DatasetInfo, reader: ShardReader, split: str, clips: int, seed: int, damaged: list[str]
) -> str:
    """Film strips of randomly chosen clips of a split."""
    intact = np.flatnonzero(~reader.index.damaged)
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    chosen = rng.permutation(intact)[:clips].tolist()
    figures = (_clip(info, reader, record, _FRAMES, damaged) for record in chosen)
    title = (
        f"{len(chosen)} of {len(intact):,} clips, by chance (seed {seed}); {_FRAMES} frames of "
        "each, as the protocol “center” takes them"
    )
    return html.card(title, "".join(figures))


def _clip(
    info: DatasetInfo,
    reader: ShardReader,
    record: int,
    frames: int,
    damaged: list[str],
    mirror_labels: Sequence[int] = (),
) -> str:
    """A film strip with its classes, or mirrored with the classes `mirror_labels`.

    If the record is damaged, it is a warning, and the damage is added to `damaged`.
    """
    index = reader.index
    labels = _labels(info, index, record)
    count, fps = int(index.num_frames[record]), float(index.fps[record])
    try:
        pictures = read_pictures(reader, record, frame_indices(count, frames, "center")[0].tolist())
    except DamagedRecord as damage:
        damaged.append(str(damage))
        return f'<p class="warn">{escape(str(damage))}</p>'
    if not mirror_labels:
        duration = f" at {fps:.3g} fps, {count / fps:.1f} s" if fps else ""
        notes = [index.video_id(record), f"{count:,} frames{duration}"]
    else:
        labels, notes = mirror_labels, ["mirrored"]
        pictures = [picture[:, ::-1] for picture in pictures]
    names = [
        info.class_names[label] if label in range(len(info.class_names)) else "no such class"
        for label in labels
    ]
    return html.figure(
        html.film_strip(pictures, f"{len(pictures)} frames of {index.video_id(record)}"),
        "; ".join(names) or "no class",
        f"label{'s' * (len(labels) > 1)} {', '.join(map(str, labels)) or NO_LABEL}",
        notes,
    )


def _mirrored_clips(
    info: DatasetInfo, readers: Mapping[str, ShardReader], seed: int, damaged: list[str]
) -> str:
    """Which classes swap when a clip is mirrored, and a few clips beside their mirror images."""
    names, rule = info.class_names, flip_pairs(info.class_names)
    pairs = f"{len(rule.pairs)} pair{'s' * (len(rule.pairs) != 1)} of classes"
    text = (
        f"<p>When training mirrors a clip, {pairs} swap their labels; all others keep theirs.</p>"
    )
    for name, partner in zip(names, rule.partner, strict=True):
        if partner < 0:
            text += f'<p class="warn">never mirrored, for want of a partner: {escape(name)}</p>'
    parts = [html.card("The rule", text)]
    if rule.pairs:
        lines = [f"{a} {names[a]} ↔ {b} {names[b]}" for a, b in rule.pairs]
        parts.append(html.text_list("Pairs", lines))
    swapped = [k for pair in rule.pairs for k in pair]
    unchanged = np.flatnonzero(rule.partner == np.arange(len(names))).tolist()
    rows = []
    for reader, record in _choose_examples(info, readers, swapped, unchanged, rule.partner, seed):
        mirror = rule.partner[_labels(info, reader.index, record)].tolist()
        both = [
            _clip(info, reader, record, _PAIR_FRAMES, damaged, labels) for labels in ((), mirror)
        ]
        rows.append(f'<div class="pair">{both[0]}{both[1]}</div>')
    if rows:
        title = "A clip, and its mirror image with the label that training gives it"
        parts.append(html.card(title, "".join(rows)))
    return "".join(parts)


def _choose_examples(
    info: DatasetInfo,
    readers: Mapping[str, ShardReader],
    swapped: Sequence[int],
    unchanged: Sequence[int],
    partner: np.ndarray,
    seed: int,
) -> list[tuple[ShardReader, int]]:
    """Chooses clips of classes that swap, then one of a class that does not: (reader, record)."""
    rng = np.random.default_rng([seed, 1])
    examples = []
    for labels, most in (
        (list(swapped), _MOST_PAIRS - 1),
        (rng.permutation(unchanged).tolist(), 1),
    ):
        count = 0
        for label in labels:
            for reader in readers.values():
                sets = reader.index.label_set(info.label_feature)
                rows, values = sets.entries(np.arange(len(reader)))
                never = rows[np.isin(values, np.flatnonzero(partner < 0))]
                records = np.setdiff1d(rows[values == label], never)
                if len(records) and count < most:
                    examples.append((reader, int(rng.choice(records))))
                    count += 1
                    break
    return examples


def _damage(folder: Path, readers: Mapping[str, ShardReader], damaged: Sequence[str]) -> str:
    """Damaged records, by the indexes and by the clips of this page, and the lines of bad.txt."""
    records = [
        f"{reader.describe(record)}: {reason}"
        for reader in readers.values()
        for record, reason in reader.index.damage.items()
    ]
    bad, unreadable = folder / BAD, []
    if bad.is_file():
        lines = bad.read_text(errors="replace").rstrip("\n").split("\n")
        unreadable = [line.replace("\t", "  —  ") for line in lines if line]
    parts = []
    for title, texts in (
        ("Damaged records", [*records, *damaged]),
        (f"Not prepared ({BAD})", unreadable),
    ):
        if texts:
            parts.append(html.text_list(f"{title}: {len(texts):,}", texts[:_MOST_LISTED]))
        else:
            parts.append(html.card(title, '<p class="soft">none</p>'))
    return "".join(parts) + f'<p class="soft">{_ADVICE}</p>'
