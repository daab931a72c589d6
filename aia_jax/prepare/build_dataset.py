"""Makes a `RawDataset` of what a reader found, and checks it before any video is opened."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from aia_jax.errors import UserError, shorten
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import Source, abbreviate, describe_folder
from aia_jax.shards.class_names import (
    find_lookalikes,
    find_name_problem,
    notes_on_labels,
    show_name,
)
from aia_jax.shards.example import label_list
from aia_jax.video.segment import Segment

# Files of one name and size are looked into, for a note; uncompressed videos may all have one size.
_MOST_LOOKED_INTO, _BEGINNING = 100, 65536  # groups of files, and bytes of each file


def listed_video(
    video_id: str,
    source: Source | None,
    expected: Path,
    labels: Mapping[str, int | tuple[int, ...]],
    split: str,
    segment: Segment | None = None,
    *,
    row: int | None = None,
    listed_frames: int = 0,
) -> RawVideo:
    """Makes the `RawVideo` of an entry in an annotation file.

    Args:
        video_id: as in `RawVideo`.
        source: of the video; None if it is missing.
        expected: the path that a missing video is reported with.
        labels: as in `RawVideo`.
        split: as in `RawVideo`.
        segment: as in `RawVideo`.
        row: as in `RawVideo`.
        listed_frames: as in `RawVideo`.
    """
    return RawVideo(
        video_id,
        source.path if source else expected,
        labels,
        split,
        source.size if source else 0,
        segment,
        missing=source is None,
        row=row,
        listed_frames=listed_frames,
    )


def build_dataset(
    name: str,
    class_names: Mapping[str, Sequence[str]],
    videos: Iterable[RawVideo],
    annotations: Sequence[Path],
    raw: Path,
    remarks: Sequence[str] = (),
    *,
    unique_sources: bool = False,
    label_sets: Sequence[str] = (),
) -> RawDataset:
    """Checks what a reader found in annotation files and makes the data set.

    Remarks on missing videos, on classes without videos and on videos that several splits share are
    added to the reader's.

    Args:
        name: as in `RawDataset`.
        class_names: as in `RawDataset`.
        videos: of all splits; those that are missing too.
        annotations: as in `RawDataset`.
        raw: the raw folder, for the errors.
        remarks: of the reader.
        unique_sources: whether a source, or a segment of it, may be listed only once in a split,
            under whatever id.
        label_sets: as in `RawDataset`.

    Raises:
        UserError: if no video is listed, one is listed twice in a split, all are missing, or the
            class names cannot be used or are not unique.
    """
    videos = tuple(videos)
    file_names = [path.name for path in annotations]
    if not videos:
        raise UserError(
            f"{' and '.join(file_names)} in {raw}: no videos are listed; download them again"
        )
    check_class_names(class_names, abbreviate(file_names))
    _check_unique(videos, class_names, annotations, unique_sources)
    listed = Counter(video.split for video in videos)
    missing = Counter(video.split for video in videos if video.missing)
    if missing.total() == len(videos):
        nearest = next(
            (folder for folder in videos[0].source.parents if os.path.isdir(folder)),  # noqa: PTH112
            raw,
        )
        raise UserError(
            f"none of the {len(videos):,} listed videos is there: looked for {videos[0].source} "
            f"and so on; {describe_folder(nearest)}; unpack the videos there, or give --raw the "
            "folder that holds them"
        )
    remarks = [
        *remarks,
        *(
            f"missing of the split {split}: {count:,} of {listed[split]:,} listed videos"
            for split, count in sorted(missing.items())
        ),
        *_remarks_on_unused_classes(class_names, videos),
        *remarks_on_splits(class_names, videos),
    ]
    return RawDataset(
        name,
        {label: tuple(names) for label, names in class_names.items()},
        videos,
        tuple(remarks),
        tuple(annotations),
        tuple(label_sets),
    )


def check_class_names(class_names: Mapping[str, Sequence[str]], where: str) -> None:
    """Checks the names of each label's classes.

    Args:
        class_names: as in `RawDataset`.
        where: the files or the folder that they come from, for the error.

    Raises:
        UserError: if one cannot name a class, or two are one name, or look like one.
    """
    for names in class_names.values():
        for name, count in Counter(names).items():
            if problem := find_name_problem(name):
                raise UserError(
                    f"{where}: {shorten(repr(name))} cannot name a class ({problem}): a name is "
                    "one line of text without spaces at its ends; rename it"
                )
            if count > 1:
                raise UserError(f"{where}: two classes are named {name!r}; give each its own name")
        if pair := find_lookalikes(names):
            raise UserError(
                f"{where}: the classes {show_name(pair[0])} and {show_name(pair[1])} differ in "
                "case, spaces or accents only, and would be two classes; spell them alike if they "
                "are one, else rename one"
            )


def remarks_on_splits(
    class_names: Mapping[str, Sequence[str]], videos: Sequence[RawVideo]
) -> Iterator[str]:
    """Lines on classes that a split lacks, and on videos that several splits share."""
    splits = sorted({video.split for video in videos})
    for label, names in class_names.items():
        labels = {
            split: [
                k
                for video in videos
                if video.split == split and not video.missing
                for k in label_list(video.labels[label])
            ]
            for split in splits
        }
        about = f"{label}: " if len(class_names) > 1 else ""
        yield from (about + note for note in notes_on_labels(names, labels))
    yield from _remarks_on_shared_videos(videos)


def _remarks_on_shared_videos(videos: Sequence[RawVideo]) -> Iterator[str]:
    """Lines on the videos that are in two splits, which makes validation too good."""
    by_source, by_content = defaultdict(list), defaultdict(list)
    for video in videos:
        if not video.missing:
            by_source[os.path.normpath(video.source)].append(video)
            if video.size and not video.segment:
                by_content[video.source.name, video.size].append(video)
    overlapping, parts, copies, doubles = [], [], [], []
    for members in by_source.values():
        if len({video.split for video in members}) > 1:
            (overlapping if _overlap_across_splits(members) else parts).append(members[0].video_id)
    looked_into = 0
    for members in by_content.values():
        is_split = len({video.split for video in members}) > 1
        if not is_split and len({tuple(video.labels.items()) for video in members}) < 2:
            continue
        if looked_into < _MOST_LOOKED_INTO and len({video.source for video in members}) > 1:
            looked_into += 1
            if _begin_alike(members):
                (copies if is_split else doubles).append(members[0].video_id)
    for ids, text in (
        (overlapping, "videos that are in several splits, whose scores then say too much"),
        (parts, "videos of which different parts are in several splits"),
        (copies, "videos of one name, size and beginning in several splits, perhaps copies"),
        (doubles, "videos of one name, size and beginning in several classes, perhaps copies"),
    ):
        if ids:
            yield f"{text}: {len(ids):,} ({abbreviate(ids)})"


def _begin_alike(videos: Sequence[RawVideo]) -> bool:
    """Whether two of these files begin with the same bytes."""
    beginnings = []
    for path in {video.source for video in videos}:
        try:
            with path.open("rb") as file:
                beginnings.append(file.read(_BEGINNING))
        except OSError:
            continue  # decoding it says why
    return len(set(beginnings)) < len(beginnings)


def _overlap_across_splits(members: Sequence[RawVideo]) -> bool:
    """Whether two of these videos, all of one source, share frames and are of different splits."""
    whole = {video.split for video in members if not video.segment}
    if whole:
        return True
    units: dict[str, list[RawVideo]] = defaultdict(list)
    for video in members:
        units[video.segment.unit].append(video)
    for one in units.values():
        ordered = sorted(one, key=lambda video: video.segment.start)
        end: dict[str, float] = {}
        for video in ordered:
            if any(
                stop > video.segment.start for split, stop in end.items() if split != video.split
            ):
                return True
            end[video.split] = max(end.get(video.split, 0), video.segment.stop)
    return False


def _remarks_on_unused_classes(
    class_names: Mapping[str, Sequence[str]], videos: Sequence[RawVideo]
) -> Iterable[str]:
    for label, names in class_names.items():
        used = {k for video in videos for k in label_list(video.labels[label])}
        if unused := sorted(set(range(len(names))) - used):
            classes = f"classes ({label})" if label != "label" else "classes"
            yield (
                f"{classes} without videos, which keep their ids: {len(unused)} "
                f"({abbreviate([names[k] for k in unused])})"
            )


def _check_unique(
    videos: Sequence[RawVideo],
    class_names: Mapping[str, Sequence[str]],
    annotations: Sequence[Path],
    sources: bool,
) -> None:
    """Raises `UserError` at a video that is listed twice in a split; names lines and labels."""
    first: dict[Hashable, RawVideo] = {}
    for video in videos:
        keys: list[Hashable] = [(video.split, video.video_id)]
        if sources:
            keys.append((video.split, os.path.normpath(video.source), str(video.segment)))
        for key in keys:
            if (earlier := first.setdefault(key, video)) is not video:
                raise UserError(_describe_double(earlier, video, class_names, annotations))


def _describe_double(
    earlier: RawVideo,
    video: RawVideo,
    class_names: Mapping[str, Sequence[str]],
    annotations: Sequence[Path],
) -> str:
    rows = ""
    if earlier.row is not None and video.row is not None:
        kind = "entries" if all(path.suffix == ".json" for path in annotations) else "lines"
        rows = f", {kind} {earlier.row} and {video.row}"
    name = shorten(video.video_id)
    if earlier.video_id != video.video_id:
        name = f"{name}, which is {shorten(earlier.video_id)},"
    labels = [
        " and ".join(
            repr(class_names[label][k])
            for label, ids in one.labels.items()
            for k in label_list(ids)
        )
        for one in (earlier, video)
    ]
    labelled = f", as {labels[0]} and as {labels[1]}" if labels[0] != labels[1] else ""
    files = abbreviate([path.name for path in annotations])
    return f"{files}{rows}: {name} is listed twice in the split {video.split}{labelled}; keep one"
