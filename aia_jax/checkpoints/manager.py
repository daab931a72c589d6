"""Saves a run's checkpoints in the background, and restores them, checked, on any mesh.

A run's folder holds a folder for each step, named by its number, which appears when all of it is
written:

    1200/state/…      Orbax: the arrays of the `TrainState`: params/…, batch_stats/…, opt_state/…,
                      ema/…, method_state/…, step
    1200/meta/…       JSON: what the caller wants to have back: data position, config, class names,
                      metrics, seed, versions
    1200/leaves/…     JSON: shape, dtype and digest of every array
    1200/SHA256SUMS   digests of all these files

A step appears and disappears as a whole, because its folder is renamed: while it is written, it is
called `1200.orbax-checkpoint-tmp`; while it is deleted, it is in `deleted/`.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import traverse_util
from jax.experimental import multihost_utils

from aia_jax.checkpoints import digest
from aia_jax.checkpoints.files import (
    CheckpointError,
    committed_steps,
    find_damage,
    named_leaves,
    read_meta,
    read_scores,
    restore_state,
    step_folder,
)
from aia_jax.checkpoints.ranking import TOP1, LatestAndBest, score_of, step_of_highest
from aia_jax.errors import RunFailed

_TEMPORARY = ".orbax-checkpoint-tmp"  # suffix of a folder that Orbax is writing
_DELETED = "deleted"


class SaveFailed(RunFailed):
    """A checkpoint could not be written; the text names the last good step, which is untouched."""


class Checkpoints:
    """A run's checkpoints: the latest few and the best one of those that are validated.

    All processes of a run make one and call the same methods with the same arguments. Only one run
    may use a folder at a time (`aia_jax.lock`). Half-written steps of an earlier run are removed. A
    step whose score cannot be read stays, because it may be the best one.

    Attributes:
        best_by: the metric of a validation that says which step is the best.
        unreadable: the steps that were damaged when this object was made, with what is wrong.

    Args:
        directory: made if needed.
        keep_latest: how many of the newest steps stay beside the best one. With 2 or more, a run
            can go on from an earlier step if the newest turns out damaged.
        best_by: from `ranking.choose_metric`.

    Raises:
        CheckpointError: the folder cannot be made or read.
    """

    def __init__(self, directory: Path | str, *, keep_latest: int = 2, best_by: str = TOP1):
        self.directory, self.best_by = Path(directory).absolute(), best_by
        self._saving: int | None = None
        logging.getLogger("absl").addFilter(_is_no_traceback_of_orbax)
        self._scores: dict[int, float] = {}
        self.unreadable: dict[int, CheckpointError] = {}
        self._preservation = LatestAndBest(keep_latest, self._scores, self.unreadable)
        try:
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=self._preservation,
                    cleanup_tmp_directories=True,
                    # Steps are moved there before they are deleted: a kill while files are being
                    # deleted never leaves half a step under its number.
                    todelete_subdir=_DELETED,
                    # Do not read Orbax's own metadata: no digest covers them.
                    lightweight_initialize=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                ),
            )
        except OSError as error:
            raise CheckpointError(
                f"checkpoints cannot be kept in {self.directory} ({error.strerror}); choose "
                "another --workdir"
            ) from error
        scores, unreadable = read_scores(self.directory, best_by)
        self._scores.update(scores)
        self.unreadable.update(unreadable)
        self._empty_deleted()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The steps on the disk that are completely written, ascending."""
        return committed_steps(self.directory)

    def best_step(self) -> int | None:
        """The step on the disk with the best validation; None if no step has one.

        Of equal steps it is the earliest.
        """
        on_disk = self.steps()
        scores = {step: score for step, score in self._scores.items() if step in on_disk}
        return step_of_highest(scores)

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> bool:
        """Starts to save a step; returns when the state may be donated.

        Writing goes on in the background. The step appears when all of it is on the disk. Then all
        steps are deleted except the latest ones and the best one.

        Args:
            step: its number.
            state: a pytree of jax arrays.
            meta: JSON; `meta["metrics"][best_by]`, if there, ranks the step for `best_step`.

        Returns:
            False, with nothing done, if the step exists.

        Raises:
            SaveFailed: this save could not start, or the one before it failed.
            TypeError: `meta` is not JSON.
        """
        meta = json.loads(json.dumps(meta))
        self.wait()
        if step in self._manager.all_steps():
            return False
        leaves = named_leaves(state)
        digests = digest.leaf_digests(leaves)
        described = {
            path: {"dtype": str(leaf.dtype), "shape": list(leaf.shape), "digest": digests[path]}
            for path, leaf in leaves.items()
        }
        self._saving = step
        if (score := score_of(meta.get("metrics"), self.best_by)) is not None:
            self._scores[step] = score
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(traverse_util.unflatten_dict(leaves, sep="/")),
                    meta=ocp.args.JsonSave(meta),
                    leaves=ocp.args.JsonSave(described),
                ),
                force=True,  # the caller decides when, not Orbax's interval
            )
        except Exception as error:
            raise self._failed(error) from error
        return True

    def add_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of a validation into the `meta` of a step that was saved before it.

        The step is whole at every moment, and its arrays are not touched. Then all steps are
        deleted except the latest ones and the best one.

        Args:
            step: its number.
            metrics: JSON; `metrics[best_by]` ranks the step for `best_step`.

        Raises:
            SaveFailed: the save under way failed, or the metrics cannot be written.
            CheckpointError: no such step, or its `meta` is damaged.
        """
        self.wait()
        folder = step_folder(self.directory, step)
        meta = read_meta(self.directory, step) | {"metrics": dict(metrics)}
        multihost_utils.sync_global_devices("meta read")
        if jax.process_index() == 0:
            try:
                digest.replace_file(folder, digest.META, json.dumps(meta).encode())
            except OSError as error:
                raise SaveFailed(
                    f"the validation of step {step} cannot be written into {folder} "
                    f"({error.strerror}); the step is whole, and the same command validates it "
                    "again"
                ) from error
        multihost_utils.sync_global_devices("metrics added")
        if (score := score_of(meta.get("metrics"), self.best_by)) is not None:
            self._scores[step] = score
        steps = sorted(self._manager.all_steps())
        preserved = self._preservation.preserved(steps)
        for other in steps:
            if other not in preserved:
                self._manager.delete(other)
        self._empty_deleted()

    def wait(self) -> None:
        """Waits until the save under way is done, and the steps that it replaced are deleted.

        Raises:
            SaveFailed: the save failed.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self._empty_deleted()

    def restore_latest(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """Restores the latest step; None if there is none yet.

        Raises:
            CheckpointError: as `restore`. An older step never takes a damaged one's place silently.
        """
        steps = self.steps()
        return self.restore(steps[-1], abstract_state) if steps else None

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a step and checks all of it.

        Args:
            step: its number.
            abstract_state: the state's tree, of arrays or `jax.ShapeDtypeStruct`s. Each leaf is
                restored with the sharding that it has there, whatever mesh the step was saved on; a
                leaf without a sharding, on the first local device.

        Returns:
            (state, meta), bit for bit what was saved.

        Raises:
            CheckpointError: no such step; damaged (with the file or leaf, and the newest whole step
                before it); of another model (with the leaves that differ).
        """
        self.wait()
        return restore_state(self.directory, step, abstract_state), read_meta(self.directory, step)

    def rewind(self, step: int) -> list[int]:
        """Sets all later steps aside, so that training can go on from `step`.

        They are renamed to `<step>.set-aside`, so that their numbers can be saved again.

        Returns:
            The steps that were set aside.

        Raises:
            CheckpointError: there is no such step, or it is damaged; nothing was set aside.
        """
        self.wait()
        if damage := find_damage(self.directory, step):
            raise damage
        later = [other for other in self.steps() if other > step]
        multihost_utils.sync_global_devices("checkpoints listed")
        if jax.process_index() == 0:
            for other in later:
                aside = self.directory / f"{other}.set-aside"
                while aside.exists():
                    aside = aside.with_name(f"{aside.name}-again")
                (self.directory / str(other)).rename(aside)
        multihost_utils.sync_global_devices("checkpoints set aside")
        for other in later:
            self._scores.pop(other, None)
            self.unreadable.pop(other, None)
        self._manager.reload()
        return later

    def close(self) -> None:
        """Waits for the save under way and ends the background threads.

        Raises:
            SaveFailed: it failed.
        """
        try:
            self.wait()
        finally:
            self._manager.close()

    def _seal(self) -> None:
        """Writes the digests of the step that is being saved.

        Orbax calls this in the first process when every file of the step is written, just before it
        renames the folder.
        """
        (folder,) = (
            path
            for path in self.directory.iterdir()
            if path.name.startswith(f"{self._saving}{_TEMPORARY}")
        )
        digest.seal(folder)

    def _empty_deleted(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.directory / _DELETED, ignore_errors=True)

    def _failed(self, error: Exception) -> SaveFailed:
        """The error of the save under way; forgets that step."""
        self._scores.pop(self._saving, None)
        # Orbax has already taken off its list the steps that this save would have replaced.
        self._manager.reload()
        steps = self.steps()
        remaining = "there is no earlier one"
        if steps:
            remaining = f"step {steps[-1]} is the last good one and is untouched"
        # The storage layer says first what it did, and last what went wrong. The whole text is in
        # the exception's cause.
        reason = " ".join(str(error).split())
        if len(reason) > 500:
            reason = f"{reason[:200]} … {reason[-300:]}"
        return SaveFailed(
            f"saving step {self._saving} in {self.directory} failed: {reason}; {remaining}"
        )


def _is_no_traceback_of_orbax(record: logging.LogRecord) -> bool:
    """Log filter: drops the tracebacks of Orbax's writing threads, which `SaveFailed` sums up."""
    return not (
        "orbax" in record.pathname and (record.exc_info or "Traceback" in record.getMessage())
    )
