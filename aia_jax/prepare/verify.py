"""Checks a prepared data set from the first byte to the last: checksums, pictures, counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from aia_jax.errors import DataError
from aia_jax.prepare.pool import LocalPool, ProgressReport, run_jobs
from aia_jax.prepare.worker_slots import count_progress
from aia_jax.shards import example
from aia_jax.shards.dataset_info import (
    label_features,
    multilabel_features,
    open_dataset,
    shard_lengths,
)
from aia_jax.shards.example import ExampleError, parse_example
from aia_jax.shards.index import Index, IndexFileError
from aia_jax.shards.index_builder import ShardIndexBuilder
from aia_jax.shards.label_sets import LabelSets
from aia_jax.shards.manifest import BAD, MANIFEST, read_manifest
from aia_jax.shards.tfrecord import scan_records

# The columns that are compared between the index and a scan of a shard.
_RECORD_COLUMNS = ("record_offset", "record_length", "height", "width", "fps")
_FRAME_COLUMNS = ("frame_offset", "frame_length", "frame_crc")


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong with a data set.

    Attributes:
        where: the file, or "shard X, record N, video ID".
        reason: what is wrong.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class VerifyResult:
    """What `verify` read and what it found.

    Attributes:
        videos: how many records were read.
        frames: how many pictures were decoded.
        bytes: of the shards.
        damage: everything that is wrong, in the order of splits and shards.
    """

    videos: int
    frames: int
    bytes: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True)
class _Job:
    """A shard to be checked.

    Attributes:
        path: of the TFRecord file.
        expected: how many records it has according to the metadata.
        num_classes: by label feature.
        label_sets: those of them of which a record may have several.
        index: of the split; None if it cannot be used.
        number: of the shard in its split, from 0.
    """

    path: Path
    expected: int
    num_classes: Mapping[str, int]
    label_sets: frozenset[str]
    index: Index | None
    number: int


def verify(folder: Path, workers: int) -> VerifyResult:
    """Checks a prepared data set against its checksums, its metadata, its index and its manifest.

    Args:
        folder: written by prepare_data.py, or by TFDS.
        workers: how many processes read it.

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
        sets = multilabel_features(folder)
        jobs[split] = [
            _Job(path, expected, sizes, sets, index, numbers[path])
            for path, expected in lengths.items()
        ]
    damage += _check_manifest(folder, info.splits, labels)
    split_results = {}
    total = sum(job.expected for members in jobs.values() for job in members)
    with LocalPool(workers) as pool:
        progress = ProgressReport(total, "verifying")
        run_jobs(pool, _check_shard, jobs, progress, split_results.__setitem__)
    results = [result for split in jobs for result in split_results[split]]
    return VerifyResult(
        videos=sum(videos for videos, _, _ in results),
        frames=sum(frames for _, frames, _ in results),
        bytes=sum(job.path.stat().st_size for members in jobs.values() for job in members),
        damage=(*damage, *(one for _, _, found in results for one in found)),
    )


def _open_index(path: Path) -> tuple[Index | None, str]:
    """The index of a split, or None and the reason why it cannot be used."""
    try:
        return Index.load(path), ""
    except FileNotFoundError:
        return None, "the file is missing; the next run makes it again"
    except (IndexFileError, OSError) as error:
        return None, f"{error}; delete it, the next run makes it again"


def _check_manifest(
    folder: Path, splits: Mapping[str, int], labels: Mapping[str, Sequence[str]]
) -> list[Damage]:
    path = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
        if not manifest:
            return []  # TFDS wrote this folder
        summaries = manifest["splits"]
        found = {split: facts["found"] for split, facts in summaries.items()}
        shards = {
            shard["file"]: shard["bytes"]
            for facts in summaries.values()
            for shard in facts["shards"]
        }
        unprepared = sum(facts["expected"] - facts["found"] for facts in summaries.values())
        names = {label: tuple(classes) for label, classes in manifest["class_names"].items()}
    except DataError as error:
        return [Damage(path.name, "it " + str(error).removeprefix(f"{path} "))]
    except (KeyError, TypeError) as error:
        return [Damage(path.name, f"it cannot be read ({error!r}); prepare the data again")]
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
        shard = folder / name
        if shard.is_file() and (actual := shard.stat().st_size) != size:
            damage.append(Damage(name, f"it has {actual:,} bytes, manifest.json says {size:,}"))
    bad = folder / BAD
    listed = bad.read_bytes().count(b"\n") if bad.is_file() else 0
    if listed != unprepared:
        damage.append(
            Damage(
                bad.name,
                f"it lists {listed} videos, by manifest.json {unprepared} could not be prepared",
            )
        )
    return damage


def _counts(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in splits.items())


def _check_shard(job: _Job) -> tuple[int, int, list[Damage]]:
    """Videos read, frames decoded, and what is wrong in one shard."""
    damage, built, frames, number = [], ShardIndexBuilder(), 0, 0
    try:
        for number, record in enumerate(scan_records(job.path), 1):
            built.add(
                record.data,
                record.offset,
                "" if record.intact else "its data does not match the checksum stored with it",
            )
            video_id = built.video_ids[-1].decode(errors="backslashreplace")
            where = f"shard {job.path.name}, record {number - 1}, video {video_id}"
            if reason := built.damage.get(number - 1):
                damage.append(Damage(where, reason))
            else:
                decoded, reasons = _check_video(record.data, job.num_classes, job.label_sets)
                frames += decoded
                damage += [Damage(where, reason) for reason in reasons]
            count_progress(1, len(record.data))
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
        elif job.index and (columns := _differing_columns(job.index, job.number, built)):
            damage.append(
                Damage(
                    job.path.name,
                    f"the index says otherwise ({columns}); delete the index, the next run makes "
                    "it again",
                )
            )
    return number, frames, damage


def _check_video(
    record: bytes, num_classes: Mapping[str, int], label_sets: frozenset[str]
) -> tuple[int, list[str]]:
    """Frames decoded, and what is wrong in one record."""
    try:
        features = parse_example(record)
    except ExampleError as error:
        return 0, [f"not a record of a video: {error}"]
    single: dict[str, Any] = {
        name: one.values[0] for name, one in features.items() if len(one.values) == 1
    }
    wrong, spans = [], features[example.FRAMES].values
    for label, classes in num_classes.items():
        values = [single.get(label)]
        if label in label_sets and label in features:
            values = features[label].values or [None]
        for value in values:
            if not isinstance(value, int) or not 0 <= value < classes:
                wrong.append(f"{label} is {value}, valid are 0 to {classes - 1}")
    if single.get(example.NUM_FRAMES) != len(spans):
        wrong.append(f"it says {single.get(example.NUM_FRAMES)} frames and holds {len(spans)}")
    decoded, size = 0, (single.get(example.HEIGHT), single.get(example.WIDTH))
    for frame, (start, length) in enumerate(spans):
        try:  # "GRAY" is faster and still reads the compressed data of all colours, strictly
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


def _differing_columns(index: Index, shard: int, built: ShardIndexBuilder) -> str:
    """Names the columns in which the split's index differs from a scan of the shard."""
    first, stop = index.first_record[shard : shard + 2]
    frames = slice(*index.first_frame[[first, stop]])
    if stop - first != len(built):
        return f"{stop - first} records"
    pairs = [
        (name, getattr(index, name)[first:stop], getattr(built, name)) for name in _RECORD_COLUMNS
    ]
    pairs += [(name, getattr(index, name)[frames], getattr(built, name)) for name in _FRAME_COLUMNS]
    pairs += [
        (label, index.labels.get(label, np.empty(0))[first:stop], column)
        for label, column in built.labels.items()
    ]
    for label, column in built.labels.items():
        scanned = LabelSets.gather(np.array(column), built.several_labels.get(label, {}))
        indexed = index.label_set(label).entries(np.arange(first, stop))
        pairs += zip((label, label), indexed, scanned.entries(np.arange(len(built))), strict=True)
    pairs += [("num_frames", index.num_frames[first:stop], built.frames_per_record)]
    differing = (
        name for name, indexed, scanned in pairs if not np.array_equal(indexed, np.array(scanned))
    )
    return ", ".join(dict.fromkeys(differing))
