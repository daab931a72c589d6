"""What a reader of raw data yields: which videos there are, where, and what they show."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RawVideo:
    """One video as its owner ships it.

    Attributes:
        video_id: its name in the prepared data set, unique within its split; its hash decides the video's place in the shards.
        source: a video file, or a folder with one picture a frame.
        labels: class ids by label feature, as `{"label": 3}`.
        split: "train", "validation" or "test".
        size: bytes of the video file, 0 for a folder; tells a file that was replaced between two runs.
    """

    video_id: str
    source: Path
    labels: Mapping[str, int]
    split: str
    size: int = 0


@dataclass(frozen=True)
class RawDataset:
    """All videos of a raw data set, before any of them is opened.

    Attributes:
        name: a letter, then letters, digits and underscores; the shards' file names begin with it.
        class_names: for each label feature the class names, by class id.
        videos: of all splits.
        remarks: lines for the user: what was found and what was left out.
    """

    name: str
    class_names: Mapping[str, tuple[str, ...]]
    videos: tuple[RawVideo, ...]
    remarks: tuple[str, ...] = ()


def id_hash(video_id: str, purpose: str) -> bytes:
    """A number without pattern that depends on nothing but the id: the same on every machine, in every run.

    Args:
        video_id: as in `RawVideo`.
        purpose: what it decides, at most 16 characters; the hashes of two purposes have nothing to do with each other.
    """
    return hashlib.blake2b(video_id.encode(), digest_size=8, person=purpose.encode()).digest()
