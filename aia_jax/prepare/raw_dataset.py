"""A raw data set as a reader finds it: its videos, where they lie, their labels and class names."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aia_jax.video.segment import Segment


@dataclass(frozen=True, slots=True)
class RawVideo:
    """One video as its owner publishes it.

    Attributes:
        video_id: its name in the prepared data set, unique within its split. A hash of it decides
            in which shard the video is stored.
        source: a video file, or a folder or .tar archive with one picture a frame; the path where
            it is expected if it is missing.
        labels: class ids by label feature, as `{"label": 3}`, or `{"label": (3, 5)}` where a video
            may have several.
        split: "train", "validation" or "test".
        size: bytes of the video file, 0 for a folder. It shows whether a file was replaced between
            two runs.
        segment: the part of the source that this video is; None: all of it.
        missing: whether the annotations name the video, but it is not there.
        row: its line or entry in the annotation file of its split, for errors; None: not known.
        listed_frames: how many frames the annotations say that it has; 0: they do not say.
    """

    video_id: str
    source: Path
    labels: Mapping[str, int | tuple[int, ...]]
    split: str
    size: int = 0
    segment: Segment | None = None
    missing: bool = False
    row: int | None = None
    listed_frames: int = 0


@dataclass(frozen=True)
class RawDataset:
    """All videos of a raw data set, before any of them is opened.

    Attributes:
        name: a letter, then letters, digits and underscores; the shards' file names begin with it.
        class_names: for each label feature the class names, by class id.
        videos: of all splits.
        label_sets: the label features of which a video may have several class ids; their entries of
            `RawVideo.labels` are tuples.
        remarks: lines for the user, such as how many videos are missing.
        annotations: the files that were read; their SHA-256 go into the manifest.
    """

    name: str
    class_names: Mapping[str, tuple[str, ...]]
    videos: tuple[RawVideo, ...]
    remarks: tuple[str, ...] = ()
    annotations: tuple[Path, ...] = ()
    label_sets: tuple[str, ...] = ()


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
