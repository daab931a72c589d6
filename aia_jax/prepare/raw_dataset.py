"""A raw data set as a reader finds it: its videos, where they lie, their labels and class names."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.raw_folder import Source, abbreviate, describe_folder
from aia_jax.video.segment import Segment


@dataclass(frozen=True, slots=True)
class RawVideo:
    """One video as its owner publishes it.

    Attributes:
        video_id: its name in the prepared data set, unique within its split. A hash of it decides
            in which shard the video is stored.
        source: a video file, or a folder or .tar archive with one picture a frame; the path where
            it is expected if it is missing.
        labels: class ids by label feature, as `{"label": 3}`.
        split: "train", "validation" or "test".
        size: bytes of the video file, 0 for a folder. It shows whether a file was replaced between
            two runs.
        segment: the part of the source that this video is; None: all of it.
        missing: whether the annotations name the video, but it is not there.
    """

    video_id: str
    source: Path
    labels: Mapping[str, int]
    split: str
    size: int = 0
    segment: Segment | None = None
    missing: bool = False


@dataclass(frozen=True)
class RawDataset:
    """All videos of a raw data set, before any of them is opened.

    Attributes:
        name: a letter, then letters, digits and underscores; the shards' file names begin with it.
        class_names: for each label feature the class names, by class id.
        videos: of all splits.
        remarks: lines for the user, such as how many videos are missing.
        annotations: the files that were read; their SHA-256 go into the manifest.
    """

    name: str
    class_names: Mapping[str, tuple[str, ...]]
    videos: tuple[RawVideo, ...]
    remarks: tuple[str, ...] = ()
    annotations: tuple[Path, ...] = ()


def id_hash(video_id: str, purpose: str) -> bytes:
    """Hashes a video's id: 8 bytes that are the same in every run, on every machine.

    Args:
        video_id: as in `RawVideo`.
        purpose: what the hash decides, at most 16 characters. The hashes of one id for two
            purposes are independent.
    """
    return hashlib.blake2b(video_id.encode(), digest_size=8, person=purpose.encode()).digest()


def name_after(folder: Path) -> str:
    """Makes a data set's name from its folder's: "My Videos" → "my_videos"."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"videos_{name}".rstrip("_")


def listed_video(
    video_id: str,
    source: Source | None,
    expected: Path,
    labels: Mapping[str, int],
    split: str,
    segment: Segment | None = None,
) -> RawVideo:
    """Makes the `RawVideo` of an entry in an annotation file.

    Args:
        video_id: as in `RawVideo`.
        source: of the video; None if it is missing.
        expected: the path that a missing video is reported with.
        labels: as in `RawVideo`.
        split: as in `RawVideo`.
        segment: as in `RawVideo`.
    """
    if source is None:
        return RawVideo(video_id, expected, labels, split, segment=segment, missing=True)
    return RawVideo(video_id, source.path, labels, split, source.size, segment)


def build_dataset(
    name: str,
    class_names: Mapping[str, Sequence[str]],
    videos: Iterable[RawVideo],
    annotations: Sequence[Path],
    raw: Path,
    remarks: Sequence[str] = (),
) -> RawDataset:
    """Checks what a reader found in annotation files and makes the data set.

    Remarks on missing videos and on classes without videos are added to the reader's.

    Args:
        name: as in `RawDataset`.
        class_names: as in `RawDataset`.
        videos: of all splits; those that are missing too.
        annotations: as in `RawDataset`.
        raw: the raw folder, for the errors.
        remarks: of the reader.

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
    _check_class_names(class_names, abbreviate(file_names))
    _check_unique_ids(videos, abbreviate(file_names))
    listed = Counter(video.split for video in videos)
    missing = Counter(video.split for video in videos if video.missing)
    if missing.total() == len(videos):
        nearest = next((folder for folder in videos[0].source.parents if folder.is_dir()), raw)
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
    ]
    return RawDataset(
        name,
        {label: tuple(names) for label, names in class_names.items()},
        videos,
        tuple(remarks),
        tuple(annotations),
    )


def _remarks_on_unused_classes(
    class_names: Mapping[str, Sequence[str]], videos: Sequence[RawVideo]
) -> Iterable[str]:
    for label, names in class_names.items():
        if unused := sorted(set(range(len(names))) - {video.labels[label] for video in videos}):
            classes = f"classes ({label})" if label != "label" else "classes"
            yield (
                f"{classes} without videos, which keep their ids: {len(unused)} "
                f"({abbreviate([names[k] for k in unused])})"
            )


def _check_unique_ids(videos: Sequence[RawVideo], files: str) -> None:
    for (split, video_id), count in Counter(
        (video.split, video.video_id) for video in videos
    ).items():
        if count > 1:
            raise UserError(f"{files}: {video_id} is listed twice in the split {split}")


def _check_class_names(class_names: Mapping[str, Sequence[str]], files: str) -> None:
    for names in class_names.values():
        for name, count in Counter(names).items():
            if not name or name != name.strip() or re.search(r"[\r\n]", name):
                raise UserError(
                    f"{files}: {name!r} cannot name a class: a name is one line without spaces at "
                    "its ends"
                )
            if count > 1:
                raise UserError(f"{files}: two classes are named {name!r}; give each its own name")
