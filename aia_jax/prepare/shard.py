"""One shard: which videos it holds, and the work of one process that writes it whole."""

import itertools
import json
import math
import os
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aia_jax.errors import DataError
from aia_jax.prepare.item import RawVideo, id_hash
from aia_jax.prepare.progress import count
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.index_rows import ShardRows
from aia_jax.shards.tfrecord import RecordWriter, atomic_file
from aia_jax.video.decode import DecodedVideo, UnreadableVideo, decode
from aia_jax.video.frame_size import FrameSize
from aia_jax.video.segment import decode_part

# Without a number from the user: as many videos a shard, but in a small data set fewer, so that
# every core has a shard to write.
_MOST_VIDEOS, _FEWEST_VIDEOS, _WANTED_SHARDS = 256, 16, 16


@dataclass(frozen=True)
class ShardJob:
    """A shard to be written.

    Attributes:
        path: of the TFRecord file.
        notes: of the file that says that the shard is finished, and what cannot be read from it
            (`ShardNotes`).
        videos: in the order of the records.
        size: of the frames.
        quality: of the JPEGs.
    """

    path: Path
    notes: Path
    videos: tuple[RawVideo, ...]
    size: FrameSize
    quality: int

    @property
    def rows(self) -> Path:
        """The shard's part of the split's index: on disk, since the rows of all shards of a large
        data set take gigabytes.
        """
        return self.notes.with_suffix(".index")


@dataclass
class ShardNotes:
    """What is known of a finished shard beside its records.

    Attributes:
        records: in the shard.
        bad: (source, reason) of each video that could not be read.
        forms: how many sources came in which form (codec, or pattern of frame names).
        gaps: video id → the frame numbers that its folder lacks.
    """

    records: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    forms: Counter = field(default_factory=Counter)
    gaps: dict[str, str] = field(default_factory=dict)


def assign(videos: Sequence[RawVideo], videos_per_shard: int = 0) -> list[tuple[RawVideo, ...]]:
    """Deals the videos of a split out to shards, so that each shard is a mixture of all classes.

    The order is that of a hash of the ids: it depends on nothing else, so every run on every
    machine deals alike.

    Args:
        videos: of one split.
        videos_per_shard: the most that a shard may hold; 0: up to 256, fewer in a small data set.
    """
    count = math.ceil(len(videos) / (videos_per_shard or _MOST_VIDEOS))
    if not videos_per_shard:
        count = max(count, min(_WANTED_SHARDS, len(videos) // _FEWEST_VIDEOS), 1)
    mixed = sorted(videos, key=lambda video: (id_hash(video.video_id, "shard"), video.video_id))
    starts = [len(mixed) * number // count for number in range(count + 1)]
    return [tuple(mixed[start:stop]) for start, stop in itertools.pairwise(starts)]


def write_shard(job: ShardJob) -> ShardNotes:
    """Writes a shard, its index rows and its notes, each whole or not at all; a shard that an
    earlier run finished is only checked.

    A video that cannot be read is noted and left out; nothing takes its place.

    Raises:
        OSError: if the shard cannot be written, or the raw data have gone away as a whole.
    """
    return _finished(job) or _write(job)


def _finished(job: ShardJob) -> ShardNotes | None:
    try:
        fields = json.loads(job.notes.read_bytes())
        rows = ShardRows.scan(job.path)
    except (FileNotFoundError, DataError):
        return None
    notes = ShardNotes(
        fields["records"],
        [tuple(pair) for pair in fields["bad"]],
        Counter(fields["forms"]),
        fields["gaps"],
    )
    if rows.damage or len(rows) != notes.records:
        return None
    Index.join([job.path], [rows]).save(job.rows)
    count(len(job.videos), sum(rows.record_length))
    return notes


def _write(job: ShardJob) -> ShardNotes:
    notes, rows = ShardNotes(), ShardRows()
    with RecordWriter(job.path, _own_name(job.path)) as writer:
        for video in job.videos:
            try:
                decoded = _decode(video, job)
            except UnreadableVideo as error:
                if not video.missing and not video.source.parent.is_dir():
                    raise FileNotFoundError(
                        f"the raw data are gone: {video.source.parent}"
                    ) from error
                where = f"{video.source}, {video.part}" if video.part else str(video.source)
                notes.bad.append((where, str(error)))
                count(1, 0)
                continue
            record = encode_example(
                decoded.frames,
                video.labels,
                video.video_id,
                decoded.fps,
                decoded.height,
                decoded.width,
            )
            rows.add(record, writer.write(record))
            notes.records += 1
            notes.forms[decoded.form] += 1
            if decoded.gaps:
                notes.gaps[video.video_id] = decoded.gaps
            count(1, len(record))
    Index.join([job.path], [rows]).save(job.rows)
    with atomic_file(job.notes, _own_name(job.notes)) as file:
        file.write(json.dumps(vars(notes)).encode())
    return notes


def _own_name(path: Path) -> str:
    """A temporary name: a cluster may give a shard to a second worker while the first, cut off,
    still writes it.
    """
    return f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp"


def _decode(video: RawVideo, job: ShardJob) -> DecodedVideo:
    if video.missing:
        raise UnreadableVideo("missing")
    if video.part or video.source.suffix.lower() == ".tar":
        return decode_part(video.source, video.part, job.size, job.quality)
    return decode(video.source, job.size, job.quality)
