"""What a reader of raw data yields: which videos there are, where, and what they show."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a longer video: what lies at `start` or after it, and before `stop`.

    Attributes:
        start: where it begins; the video's own beginning is 0 seconds and place 0.
        stop: where it ends; not in it itself.
        unit: "seconds" in a video file; in pictures "numbers", those in their names, or "places",
            counted from 0 in their order.
    """

    start: int | float
    stop: int | float
    unit: Literal["seconds", "numbers", "places"]

    def __str__(self) -> str:
        last = self.stop if self.unit == "seconds" else self.stop - 1
        return f"{self.unit} {self.start:.12g} to {last:.12g}"


@dataclass(frozen=True, slots=True)
class RawVideo:
    """One video as its owner ships it.

    Attributes:
        video_id: its name in the prepared data set, unique within its split; its hash decides the
            video's place in the shards.
        source: a video file, or a folder or .tar archive with one picture a frame; where it should
            be, if it is missing.
        labels: class ids by label feature, as `{"label": 3}`.
        split: "train", "validation" or "test".
        size: bytes of the video file, 0 for a folder; tells a file that was replaced between two
            runs.
        part: the stretch of the source that this video is; None: all of it.
        missing: whether the data set's list names it, but it is not there.
    """

    video_id: str
    source: Path
    labels: Mapping[str, int]
    split: str
    size: int = 0
    part: Part | None = None
    missing: bool = False


@dataclass(frozen=True)
class RawDataset:
    """All videos of a raw data set, before any of them is opened.

    Attributes:
        name: a letter, then letters, digits and underscores; the shards' file names begin with it.
        class_names: for each label feature the class names, by class id.
        videos: of all splits.
        remarks: lines for the user: what was found and what was left out.
        annotations: the files that say all this; their SHA-256 go into the manifest.
    """

    name: str
    class_names: Mapping[str, tuple[str, ...]]
    videos: tuple[RawVideo, ...]
    remarks: tuple[str, ...] = ()
    annotations: tuple[Path, ...] = ()


def id_hash(video_id: str, purpose: str) -> bytes:
    """A number without pattern that depends on nothing but the id: the same on every machine, in
    every run.

    Args:
        video_id: as in `RawVideo`.
        purpose: what it decides, at most 16 characters; the hashes of two purposes have nothing to
            do with each other.
    """
    return hashlib.blake2b(video_id.encode(), digest_size=8, person=purpose.encode()).digest()
