"""Checkpoints of a run: saved in the background, checked byte by byte when they are read, restored
on any mesh.

A run's folder holds one folder a step, named by its number, which appears only when all of it is
written:

    1200/state/…     Orbax: the arrays of the `TrainState`, params/…, batch_stats/…, opt_state/…,
    ema/…, step 1200/meta/…      JSON: whatever the caller wants to have back: data position,
    config, class names, metrics, seed, versions 1200/leaves/…    JSON: shape, dtype and digest of
    every array 1200/SHA256SUMS  digests of all these files

Steps come and go by renaming a folder: what is being written is called `1200.orbax-checkpoint-tmp`,
what is being deleted is in `deleted/`.
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
from orbax.checkpoint import checkpoint_managers

from aia_jax.checkpoints import digest
from aia_jax.checkpoints.files import (
    CheckpointError,
    best_of,
    committed_steps,
    named_leaves,
    read_meta,
    read_scores,
    restore_state,
    score_of,
    step_folder,
)
from aia_jax.errors import RunFailed

_TEMPORARY = ".orbax-checkpoint-tmp"
_DELETED = "deleted"


class SaveFailed(RunFailed):
    """A checkpoint could not be written; the text names the last good step, which is untouched."""


class Checkpoints:
    """A run's checkpoints: the latest few and the best by validation top-1.

    All processes of a run make one and call the same methods with the same arguments. Only one run
    may use a folder at a time. What an earlier run left half-written is removed.

    Args:
        directory: made if needed.
        keep_latest: newest steps that are kept beside the best; with 2 or more a step that turns
            out damaged has a whole one before it.

    Raises:
        CheckpointError: the folder cannot be made or read.
    """

    def __init__(self, directory: Path | str, *, keep_latest: int = 2):
        self.directory = Path(directory).absolute()
        self._saving: int | None = None
        logging.getLogger("absl").addFilter(_told_by_save_failed)
        self._scores: dict[int, float] = {}
        try:
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=_LatestAndBest(keep_latest, self._scores),
                    cleanup_tmp_directories=True,
                    # a kill in the middle of deleting a step in its place would leave half of it to
                    # be found
                    todelete_subdir=_DELETED,
                    # reads none of Orbax's own metadata, which no digest covers
                    lightweight_initialize=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                ),
            )
        except OSError as error:
            raise CheckpointError(
                f"checkpoints cannot be kept in {self.directory} ({error.strerror}); choose "
                "another --workdir"
            ) from error
        self._scores.update(read_scores(self.directory))
        self._delete()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The steps on disk that are completely written, ascending."""
        return committed_steps(self.directory)

    def best_step(self) -> int | None:
        """The step on disk with the highest validation top-1, the earliest of equals; None if no
        step has one.
        """
        on_disk = self.steps()
        return best_of({step: score for step, score in self._scores.items() if step in on_disk})

    def save(
        self, step: int, state: Any, meta: Mapping[str, Any], *, replace: bool = False
    ) -> bool:
        """Starts to save a step and returns when the state may be donated; the writing goes on in
        the background.

        The step becomes visible when all of it is on the disk; then the steps that are no longer to
        be kept are deleted.

        Args:
            step: its number.
            state: a pytree of jax arrays.
            meta: JSON; `meta["metrics"]["top1"]`, if there, ranks the step for `best_step`.
            replace: delete the step first if it is there, as for a step that was saved before it
                was validated.

        Returns:
            False, with nothing done, if the step is there already and is not to be replaced.

        Raises:
            SaveFailed: this save could not start, or the one before it failed.
            TypeError: `meta` is not JSON.
        """
        meta = json.loads(json.dumps(meta))
        self.wait()
        if step in self._manager.all_steps():
            if not replace:
                return False
            self._manager.delete(step)
        leaves = named_leaves(state)
        digests = digest.leaf_digests(leaves)
        described = {
            path: {"dtype": str(leaf.dtype), "shape": list(leaf.shape), "digest": digests[path]}
            for path, leaf in leaves.items()
        }
        self._saving = step
        if (score := score_of(meta)) is not None:
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

    def wait(self) -> None:
        """Waits for the save under way, if there is one, and for the disk space of the steps that
        it replaced.

        Raises:
            SaveFailed: it failed.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self._delete()

    def restore_latest(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """`restore` of the latest step; None if there is none yet. If it is damaged this raises: an
        older one is never taken silently.
        """
        steps = self.steps()
        return self.restore(steps[-1], abstract_state) if steps else None

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a step and checks all of it.

        Args:
            step: its number.
            abstract_state: the state's tree with arrays or `jax.ShapeDtypeStruct`s whose shardings
                say where each leaf goes; the step may have been saved on another mesh. A leaf
                without a sharding goes to the first local device.

        Returns:
            (state, meta), bit for bit what was saved.

        Raises:
            CheckpointError: no such step; damaged (with the file or leaf, and the newest whole step
                before it); of another model (with the leaves that differ).
        """
        self.wait()
        return restore_state(self.directory, step, abstract_state), read_meta(self.directory, step)

    def rewind(self, step: int) -> list[int]:
        """Sets all later steps aside, as `<step>.set-aside`, so that training can go on from `step`
        and save their numbers again.

        Returns:
            The steps that were set aside.
        """
        self.wait()
        step_folder(self.directory, step)
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
        """Orbax calls this in the first process when every file of the step is written, just before
        the step becomes visible.
        """
        (folder,) = (
            path
            for path in self.directory.iterdir()
            if path.name.startswith(f"{self._saving}{_TEMPORARY}")
        )
        digest.seal(folder)

    def _delete(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.directory / _DELETED, ignore_errors=True)

    def _failed(self, error: Exception) -> SaveFailed:
        self._scores.pop(self._saving, None)
        # Orbax has already struck the steps off its list that this save would have replaced
        self._manager.reload()
        steps = self.steps()
        left = (
            f"step {steps[-1]} is the last good one and is untouched"
            if steps
            else "there is no earlier one"
        )
        reason = " ".join(str(error).split())[
            -300:
        ]  # the storage layer says last what went wrong; all of it is in the cause
        return SaveFailed(
            f"saving step {self._saving} in {self.directory} failed: {reason}; {left}"
        )


def _told_by_save_failed(record: logging.LogRecord) -> bool:
    """Drops the tracebacks that Orbax logs from its writing threads: `SaveFailed` says the same in
    a line.
    """
    return not (
        "orbax" in record.pathname and (record.exc_info or "Traceback" in record.getMessage())
    )


class _LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the latest steps and the best one. Orbax's `BestN` would read its scores from a file
    that no digest covers.
    """

    def __init__(self, latest: int, scores: Mapping[int, float]):
        self.latest, self.scores = latest, scores

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = best_of({step: score for step, score in self.scores.items() if step in steps})
        kept = {*steps[-self.latest :], best}
        return [step in kept for step in steps]
