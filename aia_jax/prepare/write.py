"""Writes a list of raw videos as a finished data set: shards, index, manifest and metadata.

The state of an unfinished preparation is in OUT/.prepare: the plan (what was asked for) and the
notes of each finished shard. A run that was killed continues from there, and its result has the
same bytes as that of an undisturbed run. dataset_info.json is the last file to appear; .prepare is
removed after it.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError
from aia_jax.files import write_text
from aia_jax.json_file import read_json
from aia_jax.lock import FolderLock
from aia_jax.prepare.manifest import (
    SUMMARY_KEYS,
    describe_difference,
    format_manifest,
    summarize_split,
)
from aia_jax.prepare.pool import RUN_AGAIN, PreparationError, ProgressReport, run_jobs
from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.raw_folder import describe_folder
from aia_jax.prepare.shard import ShardJob, ShardNotes, assign_to_shards, write_shard
from aia_jax.shards.dataset_info import DATASET_INFO
from aia_jax.shards.index import Index, IndexFileError
from aia_jax.shards.index_merge import merge_index_files
from aia_jax.shards.manifest import BAD, MANIFEST, read_manifest
from aia_jax.video.frame_size import FrameFormat

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STATE, _PLAN = ".prepare", "plan.json"


def prepare(
    dataset: RawDataset,
    plan: Mapping[str, Any],
    frame_format: FrameFormat,
    out: Path,
    pool: Any,
    command: str,
    videos_per_shard: int = 0,
) -> dict[str, Any]:
    """Writes the data set, or the part of it that an earlier run of the same plan left undone.

    Args:
        dataset: what a reader found.
        plan: from `manifest.make_plan`.
        frame_format: of the stored frames.
        out: the folder; made if it is missing.
        pool: the processes that do the work (`pool.LocalPool` or `cluster.ClusterPool`); they do
            not change the result.
        command: a command line that makes the data set again, for the manifest.
        videos_per_shard: the most that a shard may hold; 0: `shard.assign_to_shards` chooses.

    Returns:
        The manifest.

    Raises:
        UserError: if `out` cannot be used, or holds the work of another plan.
        PreparationError: if a worker dies, a file cannot be written, or no video of a split can be
            read.
    """
    if manifest := _finished_manifest(out, plan):
        return manifest
    with _locked_state(out, plan) as state:
        jobs = {
            split: _make_jobs(dataset, split, frame_format, out, state, videos_per_shard)
            for split in plan["videos"]
        }
        summaries, bad = {}, []

        def finish_split(split: str, notes: list[ShardNotes]) -> None:
            bad.extend(pair for note in notes for pair in note.bad)
            if any(note.records for note in notes):
                try:
                    merge_index_files([job.index for job in jobs[split]], out / f"{split}.index")
                    index = Index.load(out / f"{split}.index")
                except IndexFileError as error:
                    raise PreparationError(
                        f"an index of the split {split} was damaged since it was written "
                        f"({error}); {RUN_AGAIN}"
                    ) from error
                summaries[split] = summarize_split(index, jobs[split], notes, dataset.class_names)

        run_jobs(pool, write_shard, jobs, ProgressReport(len(dataset.videos)), finish_split)
        _remove_temporary_files(out)  # a worker of a cluster may have been killed
        _write_bad(out / BAD, bad)
        if empty := [split for split in jobs if split not in summaries]:
            raise PreparationError(
                f"no video of the split {empty[0]} could be read; {out / BAD} says why"
            )
        # The splits finish in any order; the manifest has them in the order of the plan.
        summaries = {split: summaries[split] for split in jobs}
        manifest = format_manifest(plan, dataset, command, summaries)
        write_text(out / MANIFEST, manifest, errors="backslashreplace")
        _write_metadata(
            dataset,
            summaries,
            out,
            f"{plan['data_set']}, frames {frame_format.size}, JPEG quality {frame_format.quality}",
        )
    shutil.rmtree(out / _STATE, ignore_errors=True)
    return json.loads(manifest)


def _make_jobs(
    dataset: RawDataset,
    split: str,
    frame_format: FrameFormat,
    out: Path,
    state: Path,
    videos_per_shard: int,
) -> list[ShardJob]:
    videos = [video for video in dataset.videos if video.split == split]
    shards = assign_to_shards(videos, videos_per_shard)
    names = [
        f"{dataset.name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
        for number in range(len(shards))
    ]
    return [
        ShardJob(out / name, state / f"{name}.json", shard_videos, frame_format)
        for name, shard_videos in zip(names, shards, strict=True)
    ]


def _write_bad(path: Path, bad: list[tuple[str, str]]) -> None:
    """Writes bad.txt: a line a video, with its source and the reason separated by a tab."""

    def escape(text: str) -> str:  # what ends a line or a column, or steers a terminal
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)

    lines = "".join(f"{escape(source)}\t{escape(reason)}\n" for source, reason in sorted(bad))
    write_text(path, lines, errors="backslashreplace")


def _write_metadata(
    dataset: RawDataset, summaries: Mapping[str, Any], out: Path, description: str
) -> None:
    # Imported here, because it imports TFDS and every worker process imports this module.
    from aia_jax.shards.tfds_metadata import write_metadata

    lengths = {
        split: [shard["videos"] for shard in summary["shards"]]
        for split, summary in summaries.items()
    }
    write_metadata(
        out,
        name=dataset.name,
        class_names=dataset.class_names,
        shard_lengths=lengths,
        description=description,
        label_sets=dataset.label_sets,
    )


def _finished_manifest(out: Path, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest, if `out` already holds all of this data set, else None."""
    if not (out / DATASET_INFO).is_file() or not (out / MANIFEST).is_file():
        return None
    manifest = read_manifest(out)
    _refuse_other_plan(out, out / MANIFEST, manifest, plan)
    if any(
        not isinstance(facts, dict) or not facts.keys() >= SUMMARY_KEYS
        for facts in manifest["splits"].values()
    ):
        raise UserError(
            f"{out / MANIFEST} lacks what this program writes there; prepare into another --out"
        )
    shards = [shard for summary in manifest["splits"].values() for shard in summary["shards"]]
    if any(
        not (out / shard["file"]).is_file()
        or (out / shard["file"]).stat().st_size != shard["bytes"]
        for shard in shards
    ):
        return None
    # An earlier run may have been killed just before it removed these.
    shutil.rmtree(out / _STATE, ignore_errors=True)
    _remove_temporary_files(out)
    return manifest


def _refuse_other_plan(
    out: Path, file: Path, earlier: Mapping[str, Any], plan: Mapping[str, Any]
) -> None:
    """Raises `UserError` if `earlier`, the content of `file`, is another plan or none."""
    if missing := [key for key, value in plan.items() if type(earlier.get(key)) is not type(value)]:
        raise UserError(
            f"{file}: no usable {missing[0]}, so that nobody can tell what was prepared here; "
            f"choose another --out, or delete {out}"
        )
    if difference := describe_difference(earlier, plan):
        raise UserError(
            f"{out} holds the work of another command: {difference}; use the same options and raw "
            "data, or another --out"
        )


@contextmanager
def _locked_state(out: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """Yields OUT/.prepare, which holds the plan and is locked against a second run.

    Temporary files that a killed run left in OUT are removed first.
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
                f"{describe_folder(out)}"
            )
        state.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(state, "--out")
    except OSError as error:
        raise UserError(
            f"--out {out} cannot be written ({error.strerror}); choose another folder"
        ) from error
    with lock:
        for note in lock.notes:
            print(f"note: {note}")
        if (state / _PLAN).is_file():
            remedy = f"choose another --out, or delete {out}"
            earlier = read_json(state / _PLAN, dict, remedy, file_names=True)
            _refuse_other_plan(out, state / _PLAN, earlier, plan)
        else:
            write_text(state / _PLAN, json.dumps(plan))
        _remove_temporary_files(out)
        yield state


def _remove_temporary_files(out: Path) -> None:
    for path in out.glob("*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
