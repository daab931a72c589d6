"""One shard: which videos it holds, and the work of the process that writes it."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aia_jax.errors import DataError
from aia_jax.files import atomic_file
from aia_jax.prepare.raw_dataset import RawVideo, id_hash
from aia_jax.prepare.worker_slots import count_progress
from aia_jax.shards.example import encode_around_frames, encode_frame_head
from aia_jax.shards.index import Index
from aia_jax.shards.index_builder import ShardIndexBuilder
from aia_jax.shards.tfrecord import RecordWriter, crc32c
from aia_jax.video.decode import DecodedVideo, decode
from aia_jax.video.faults import OutputError, UnreadableVideo
from aia_jax.video.frame_size import FrameFormat
from aia_jax.video.frame_spool import FrameSpool
from aia_jax.video.segment import decode_segment

# The default number of videos in a shard. A small data set gets fewer in each, so that there are 16
# shards for 16 processes, but not fewer than 16.
_MOST_VIDEOS, _FEWEST_VIDEOS, _WANTED_SHARDS = 256, 16, 16

_FEW_FRAMES, _FEW_OF_THEM = 2, 0.1  # by which a list's number of frames may differ without a note


@dataclass(frozen=True)
class ShardJob:
    """A shard to be written.

    Attributes:
        path: of the TFRecord file.
        notes: of the JSON file with the shard's `ShardNotes`; it exists once the shard is finished.
        videos: in the order of the records.
        frame_format: of the stored frames.
    """

    path: Path
    notes: Path
    videos: tuple[RawVideo, ...]
    frame_format: FrameFormat

    @property
    def index(self) -> Path:
        """The file with the shard's index, until the index of the split is put together.

        It is not held in memory, because the indices of all shards of a large data set take
        gigabytes.
        """
        return self.notes.with_suffix(".index")


@dataclass
class ShardNotes:
    """What is known about a finished shard beside its records.

    Attributes:
        records: in the shard.
        bad: (source, reason) of each video that could not be read.
        forms: how many sources had each `DecodedVideo.form`.
        gaps: video id → the frame numbers that are missing in its folder.
        end_unchecked: how many of the videos are in files that do not say how long they are.
        other_lengths: video id → the number of frames that the annotations say and the number that
            was found, where they are far apart.
    """

    records: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    forms: Counter = field(default_factory=Counter)
    gaps: dict[str, str] = field(default_factory=dict)
    end_unchecked: int = 0
    other_lengths: dict[str, tuple[int, int]] = field(default_factory=dict)


def assign_to_shards(
    videos: Sequence[RawVideo], videos_per_shard: int = 0
) -> list[tuple[RawVideo, ...]]:
    """Distributes the videos of a split over shards, all classes mixed in each.

    The order is that of a hash of the ids. It depends on nothing else, so that every run on every
    machine gives the same shards.

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
    """Writes a shard, its index and its notes, each completely or not at all.

    A shard that an earlier run finished is only checked. A video that cannot be read is noted and
    left out; nothing replaces it.

    Raises:
        OSError: if the shard cannot be written, or the folder of a raw video has disappeared.
    """
    return _check_finished(job) or _write(job)


def _check_finished(job: ShardJob) -> ShardNotes | None:
    """The notes of a shard that is finished and intact, else None."""
    try:
        fields = json.loads(job.notes.read_bytes())
        notes = ShardNotes(
            fields["records"],
            [tuple(pair) for pair in fields["bad"]],
            Counter(fields["forms"]),
            fields["gaps"],
            fields.get("end_unchecked", 0),  # an older version began the preparation
            fields.get("other_lengths", {}),
        )
        index = ShardIndexBuilder.scan(job.path)
    except FileNotFoundError:
        return None
    # Damage of either file: the shard is written again.
    except (DataError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if index.damage or len(index) != notes.records:
        return None
    Index.join([job.path], [index]).save(job.index)
    count_progress(len(job.videos), sum(index.record_length))
    return notes


def _write(job: ShardJob) -> ShardNotes:
    notes, index = ShardNotes(), ShardIndexBuilder()
    # concurrent: a cluster may give a shard to a second worker while the first one, which has lost
    # its connection, still writes it.
    with RecordWriter(job.path, concurrent=True) as writer:
        for video in job.videos:
            with FrameSpool(job.path.parent) as spool:
                try:
                    decoded = _decode(video, job.frame_format, spool)
                except UnreadableVideo as error:
                    if not video.missing and _is_gone(video.source.parent):
                        raise FileNotFoundError(
                            f"the raw data are gone: {video.source.parent}"
                        ) from error
                    notes.bad.append((_describe_source(video), str(error)))
                    count_progress(1, 0)
                    continue
                except OutputError as error:
                    raise error.__cause__ from None
                length = _write_record(writer, index, video, decoded, spool)
            notes.records += 1
            notes.forms[decoded.form] += 1
            notes.end_unchecked += not decoded.end_checked
            if decoded.gaps:
                notes.gaps[video.video_id] = decoded.gaps
            if _is_far(video.listed_frames, decoded.count):
                notes.other_lengths[video.video_id] = (video.listed_frames, decoded.count)
            count_progress(1, length)
    Index.join([job.path], [index]).save(job.index)
    with atomic_file(job.notes, concurrent=True) as file:
        file.write(json.dumps(vars(notes)).encode())
    return notes


def _write_record(
    writer: RecordWriter,
    index: ShardIndexBuilder,
    video: RawVideo,
    decoded: DecodedVideo,
    spool: FrameSpool,
) -> int:
    """Writes a video frame by frame, with its entry in the index; returns the record's length.

    At no time is more than one frame of a long video in memory.
    """
    facts = video.labels, video.video_id, decoded.fps, decoded.height, decoded.width
    before, after = encode_around_frames(spool.lengths, *facts)
    spans: list[tuple[int, int, int]] = []  # offset in the record, length, CRC32C of each frame

    def pieces() -> Iterator[bytes]:
        yield before
        at = len(before)
        for frame in spool:
            head = encode_frame_head(len(frame))
            spans.append((at + len(head), len(frame), crc32c(frame)))
            at += len(head) + len(frame)
            yield head
            yield frame
        yield after

    heads = sum(len(encode_frame_head(length)) for length in spool.lengths)
    length = len(before) + heads + sum(spool.lengths) + len(after)
    offset = writer.write_pieces(pieces(), length)
    index.add_written(offset, length, *facts, spans)
    return length


def _is_far(listed: int, found: int) -> bool:
    """Whether a listed number of frames is another than the one found; 0: none is listed.

    Programs count the first and last frames of a file in several ways.
    """
    return listed > 0 and abs(listed - found) > max(_FEW_FRAMES, _FEW_OF_THEM * found)


def _is_gone(folder: Path) -> bool:
    """Whether there is nothing at a path; False where that cannot be found out."""
    try:
        folder.stat()
    except FileNotFoundError:
        return True
    except OSError:  # as with a name that is too long
        return False
    return False


def _describe_source(video: RawVideo) -> str:
    return f"{video.source}, {video.segment}" if video.segment else str(video.source)


def _decode(video: RawVideo, frame_format: FrameFormat, spool: FrameSpool) -> DecodedVideo:
    size, quality, names = frame_format.size, frame_format.quality, frame_format.frame_names
    if video.missing:
        raise UnreadableVideo("missing")
    if video.segment or video.source.suffix.lower() == ".tar":
        return decode_segment(video.source, video.segment, size, quality, spool, names)
    return decode(video.source, size, quality, sink=spool, frame_names=names)
