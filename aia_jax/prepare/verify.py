"""Reads every byte of a prepared data set again: checksums, pictures, labels, counts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from aia_jax.errors import DataError
from aia_jax.prepare.pool import LocalPool, run_jobs
from aia_jax.prepare.progress import ProgressReport, count
from aia_jax.shards import example
from aia_jax.shards.dataset_info import label_features, open_dataset, shard_lengths
from aia_jax.shards.example import ExampleError, parse_example
from aia_jax.shards.index import Index, IndexFileError
from aia_jax.shards.index_rows import ShardRows
from aia_jax.shards.tfrecord import scan_records

_COMPARED = (
    "record_offset",
    "record_length",
    "height",
    "width",
    "fps",
)  # columns with a row a record
_COMPARED_FRAMES = ("frame_offset", "frame_length", "frame_crc")


@dataclass(frozen=True)
class Damage:
    """Something that is wrong with a data set.

    Attributes:
        where: the file, or "shard X, record N, video ID".
        reason: what is wrong.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """What was looked at.

    Attributes:
        videos: records read.
        frames: pictures decoded.
        bytes: of the shards.
        damage: everything found, in the order of splits and shards.
    """

    videos: int
    frames: int
    bytes: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True)
class _Job:
    path: Path
    expected: int  # records, by the metadata
    num_classes: Mapping[str, int]  # by label feature
    index: Index | None
    number: int  # of the shard in its split


def verify(folder: Path, workers: int) -> Verified:
    """Checks a prepared data set against its checksums, its metadata, its index and its manifest.

    Args:
        folder: what prepare_data.py wrote, or TFDS.
        workers: processes.

    Raises:
        DataError: if the folder is no prepared data set.
    """
    labels = label_features(folder)
    info = open_dataset(folder, next(iter(labels), "label"))
    damage, jobs = [], {}
    for split in info.splits:
        lengths = shard_lengths(folder, split)
        numbers = {path: number for number, path in enumerate(lengths)}
        for path in [path for path in lengths if not path.is_file()]:
            damage.append(
                Damage(path.name, f"the file is missing; it held {lengths.pop(path)} videos")
            )
        index, reason = _open_index(folder / f"{split}.index")
        if reason:
            damage.append(Damage(f"{split}.index", reason))
        elif [shard.name for shard in index.shards] != [path.name for path in numbers]:
            damage.append(
                Damage(f"{split}.index", f"it describes {len(index.shards)} shards of other names")
            )
            index = None
        sizes = {label: len(names) for label, names in labels.items()}
        jobs[split] = [
            _Job(path, expected, sizes, index, numbers[path]) for path, expected in lengths.items()
        ]
    damage += _against_manifest(folder, info.splits, labels)
    seen = {}
    total = sum(job.expected for members in jobs.values() for job in members)
    with LocalPool(workers) as pool:
        run_jobs(pool, _check_shard, jobs, ProgressReport(total, "verifying"), seen.__setitem__)
    results = [result for split in jobs for result in seen[split]]
    return Verified(
        videos=sum(videos for videos, _, _ in results),
        frames=sum(frames for _, frames, _ in results),
        bytes=sum(job.path.stat().st_size for members in jobs.values() for job in members),
        damage=(*damage, *(one for _, _, found in results for one in found)),
    )


def _open_index(path: Path) -> tuple[Index | None, str]:
    try:
        return Index.load(path), ""
    except FileNotFoundError:
        return None, "the file is missing; the next run makes it again"
    except (IndexFileError, OSError) as error:
        return None, f"{error}; delete it, the next run makes it again"


def _against_manifest(
    folder: Path, splits: Mapping[str, int], labels: Mapping[str, Sequence[str]]
) -> list[Damage]:
    path = folder / "manifest.json"
    if not path.is_file():
        return []  # TFDS wrote this folder
    try:
        manifest = json.loads(path.read_bytes())
        of_splits = manifest["splits"]
        found = {split: facts["found"] for split, facts in of_splits.items()}
        shards = {
            shard["file"]: shard["bytes"]
            for facts in of_splits.values()
            for shard in facts["shards"]
        }
        unread = sum(facts["expected"] - facts["found"] for facts in of_splits.values())
        names = {label: tuple(classes) for label, classes in manifest["class_names"].items()}
    except (ValueError, KeyError, TypeError) as error:
        return [Damage(path.name, f"it cannot be read ({error!r})")]
    damage = []
    if found != dict(splits):
        damage.append(
            Damage(
                path.name,
                f"it counts the videos {_counts(found)}, dataset_info.json {_counts(splits)}",
            )
        )
    if names != {label: tuple(classes) for label, classes in labels.items()}:
        damage.append(Damage(path.name, "its class names are not those of the metadata"))
    for name, size in shards.items():
        if (folder / name).is_file() and (is_ := (folder / name).stat().st_size) != size:
            damage.append(Damage(name, f"it has {is_:,} bytes, manifest.json says {size:,}"))
    bad = folder / "bad.txt"
    listed = len(bad.read_text(errors="replace").splitlines()) if bad.is_file() else 0
    if listed != unread:
        damage.append(
            Damage(
                bad.name,
                f"it lists {listed} videos, by manifest.json {unread} could not be prepared",
            )
        )
    return damage


def _counts(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in splits.items())


def _check_shard(job: _Job) -> tuple[int, int, list[Damage]]:
    """Videos read, frames decoded, and what is wrong in one shard."""
    damage, rows, frames, number = [], ShardRows(), 0, 0
    try:
        for number, record in enumerate(scan_records(job.path), 1):
            rows.add(
                record.data,
                record.offset,
                "" if record.intact else "its data does not match the checksum stored with it",
            )
            video_id = rows.video_ids[-1].decode(errors="backslashreplace")
            where = f"shard {job.path.name}, record {number - 1}, video {video_id}"
            if reason := rows.damage.get(number - 1):
                damage.append(Damage(where, reason))
            else:
                decoded, reasons = _check_video(record.data, job.num_classes)
                frames += decoded
                damage += [Damage(where, reason) for reason in reasons]
            count(1, len(record.data))
    except DataError as error:
        damage.append(Damage(job.path.name, str(error).removeprefix(f"{job.path}: ")))
    else:
        if number != job.expected:
            damage.append(
                Damage(
                    job.path.name,
                    f"it holds {number} records, dataset_info.json says {job.expected}",
                )
            )
        elif job.index and (differs := _differs(job.index, job.number, rows)):
            damage.append(
                Damage(
                    job.path.name,
                    f"the index says otherwise ({differs}); delete the index, the next run makes "
                    "it again",
                )
            )
    return number, frames, damage


def _check_video(record: bytes, num_classes: Mapping[str, int]) -> tuple[int, list[str]]:
    try:
        features = parse_example(record)
    except ExampleError as error:
        return 0, [f"not a record of a video: {error}"]
    single: dict[str, Any] = {
        name: one.values[0] for name, one in features.items() if len(one.values) == 1
    }
    wrong, spans = [], features[example.FRAMES].values
    for label, classes in num_classes.items():
        if not isinstance(at := single.get(label), int) or not 0 <= at < classes:
            wrong.append(f"{label} is {at}, valid are 0 to {classes - 1}")
    if single.get(example.NUM_FRAMES) != len(spans):
        wrong.append(f"it says {single.get(example.NUM_FRAMES)} frames and holds {len(spans)}")
    decoded, size = 0, (single.get(example.HEIGHT), single.get(example.WIDTH))
    for frame, (start, length) in enumerate(spans):
        try:  # grey: the entropy-coded data of all colours are read all the same, and strictly
            picture = simplejpeg.decode_jpeg(
                record[start : start + length], colorspace="GRAY", fastdct=True, strict=True
            )
        except ValueError as error:
            wrong.append(f"frame {frame} is no intact JPEG ({error})")
            continue
        decoded += 1
        if picture.shape[:2] != size:
            wrong.append(
                f"frame {frame} is {picture.shape[0]}x{picture.shape[1]} pixels, the record says "
                f"{size[0]}x{size[1]}"
            )
    return decoded, wrong


def _differs(index: Index, shard: int, rows: ShardRows) -> str:
    """Which column of the index is not what a scan of the shard gives; empty if all are."""
    first, stop = index.first_record[shard : shard + 2]
    frames = slice(*index.first_frame[[first, stop]])
    if stop - first != len(rows):
        return f"{stop - first} records"
    pairs = [(name, getattr(index, name)[first:stop], getattr(rows, name)) for name in _COMPARED]
    pairs += [
        (name, getattr(index, name)[frames], getattr(rows, name)) for name in _COMPARED_FRAMES
    ]
    pairs += [
        (label, index.labels.get(label, np.empty(0))[first:stop], column)
        for label, column in rows.labels.items()
    ]
    pairs += [("num_frames", index.num_frames[first:stop], rows.frames_of_record)]
    return ", ".join(
        name for name, of_index, of_rows in pairs if not np.array_equal(of_index, np.array(of_rows))
    )
