"""From a list of raw videos to a finished data set: shards, index, manifest and metadata.

The state of an unfinished preparation is in OUT/.prepare: the plan (what was asked for) and the
notes of each finished shard. A run that was killed goes on from there, and its result has the same
bytes as that of a run that was not. dataset_info.json is the last file to appear; only then does
.prepare go.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError
from aia_jax.prepare.item import RawDataset
from aia_jax.prepare.listing import contents
from aia_jax.prepare.manifest import make_manifest, split_facts, what_differs
from aia_jax.prepare.pool import PreparationError, run_jobs
from aia_jax.prepare.progress import ProgressReport
from aia_jax.prepare.shard import ShardJob, ShardNotes, assign, write_shard
from aia_jax.shards.index import Index
from aia_jax.shards.index_merge import merge_index_files
from aia_jax.shards.tfrecord import atomic_file
from aia_jax.video.frame_size import FrameSize

MANIFEST, BAD = "manifest.json", "bad.txt"
_DONE = "dataset_info.json"
_STATE, _PLAN, _LOCK = ".prepare", "plan.json", "lock"


@dataclass(frozen=True)
class Storage:
    """How the videos are stored.

    Attributes:
        size: of the frames.
        quality: of the JPEGs, 1 to 100.
        videos_per_shard: the most that a shard may hold; 0 leaves it to `shard.assign`.
    """

    size: FrameSize
    quality: int
    videos_per_shard: int = 0


def prepare(
    dataset: RawDataset,
    plan: Mapping[str, Any],
    storage: Storage,
    out: Path,
    pool: Any,
    command: str,
) -> dict[str, Any]:
    """Writes the data set, or what an earlier run of the same plan left undone.

    Args:
        dataset: what a reader found.
        plan: of `manifest.plan_of`.
        storage: how it is stored.
        out: the folder; made if it is missing.
        pool: the processes that do it (`pool.LocalPool` or `cluster.ClusterPool`); they do not
            change the result.
        command: the command line, for the manifest.

    Returns:
        The manifest.

    Raises:
        UserError: if `out` cannot be used, or holds the work of another plan.
        PreparationError: if a worker dies, a file cannot be written, or no video of a split can be
            read.
    """
    if manifest := _finished_before(out, plan):
        return manifest
    with _state_folder(out, plan) as state:
        jobs = {split: _jobs(dataset, split, storage, out, state) for split in plan["videos"]}
        facts, bad = {}, []

        def finish_split(split: str, notes: list[ShardNotes]) -> None:
            bad.extend(pair for note in notes for pair in note.bad)
            if any(note.records for note in notes):
                merge_index_files([job.rows for job in jobs[split]], out / f"{split}.index")
                index = Index.load(out / f"{split}.index")
                facts[split] = split_facts(index, jobs[split], notes, dataset.class_names)

        run_jobs(pool, write_shard, jobs, ProgressReport(len(dataset.videos)), finish_split)
        _clear_left_overs(out)  # of a cluster's worker that was killed
        _write(
            out / BAD,
            "".join(f"{_one_line(path)}\t{_one_line(reason)}\n" for path, reason in sorted(bad)),
        )
        if empty := [split for split in jobs if split not in facts]:
            raise PreparationError(
                f"no video of the split {empty[0]} could be read; {out / BAD} says why"
            )
        facts = {
            split: facts[split] for split in jobs
        }  # not in the order in which they were finished
        manifest = make_manifest(plan, dataset, command, facts)
        _write(out / MANIFEST, manifest)
        _write_metadata(
            dataset,
            facts,
            out,
            f"{plan['data_set']}, frames {storage.size}, JPEG quality {storage.quality}",
        )
    shutil.rmtree(out / _STATE, ignore_errors=True)
    return json.loads(manifest)


def _jobs(
    dataset: RawDataset, split: str, storage: Storage, out: Path, state: Path
) -> list[ShardJob]:
    shards = assign(
        [video for video in dataset.videos if video.split == split], storage.videos_per_shard
    )
    names = [
        f"{dataset.name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
        for number in range(len(shards))
    ]
    return [
        ShardJob(out / name, state / f"{name}.json", videos, storage.size, storage.quality)
        for name, videos in zip(names, shards, strict=True)
    ]


def _write_metadata(
    dataset: RawDataset, facts: Mapping[str, Any], out: Path, description: str
) -> None:
    from aia_jax.shards.tfds_metadata import (
        write_metadata,  # imports TFDS, for which each worker process would wait otherwise
    )

    lengths = {
        split: [shard["videos"] for shard in of_split["shards"]]
        for split, of_split in facts.items()
    }
    write_metadata(
        out,
        name=dataset.name,
        class_names=dataset.class_names,
        shard_lengths=lengths,
        description=description,
    )


def _finished_before(out: Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest, if `out` already holds this very data set, whole."""
    if not (out / _DONE).is_file() or not (out / MANIFEST).is_file():
        return None
    manifest = json.loads((out / MANIFEST).read_bytes())
    _refuse_other_plan(out, manifest, plan)
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    if any(
        not (out / shard["file"]).is_file()
        or (out / shard["file"]).stat().st_size != shard["bytes"]
        for shard in shards
    ):
        return None
    shutil.rmtree(
        out / _STATE, ignore_errors=True
    )  # a run may have been killed just before it did so
    _clear_left_overs(out)
    return manifest


def _refuse_other_plan(out: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if differs := what_differs(then, now):
        raise UserError(
            f"{out} holds the work of another command: {differs}; use the same options and raw "
            "data, or another --out"
        )


@contextmanager
def _state_folder(out: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """OUT/.prepare with the plan, locked against a second run, and OUT without what a killed run
    left half-written.
    """
    state = out / _STATE
    try:
        if (
            out.is_dir()
            and any(out.iterdir())
            and not (state.is_dir() or (out / MANIFEST).is_file())
        ):
            raise UserError(
                "--out must be a new or empty folder, or one that this program began: "
                f"{contents(out)}"
            )
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / _LOCK).open("w")
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be written ({error.strerror}); choose another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another prepare_data.py is at work on {out}; wait for its end, or choose another "
                "--out"
            ) from None
        if (state / _PLAN).is_file():
            _refuse_other_plan(out, json.loads((state / _PLAN).read_bytes()), plan)
        else:
            _write(state / _PLAN, json.dumps(plan))
        _clear_left_overs(out)
        yield state


def _clear_left_overs(out: Path) -> None:
    for path in out.glob("*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def _one_line(text: str) -> str:
    """Without the two characters that separate bad.txt's fields and lines."""
    return text.replace("\t", "\\t").replace("\n", "\\n")
