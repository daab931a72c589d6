"""The folder of a run: made, found to be writable, and kept to one run at a time."""

import os
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils

from aia_jax.errors import UserError
from aia_jax.lock import FolderLock
from aia_jax.shards.damage_log import FILE_NAME, DamageLog
from aia_jax.shards.reader import ShardReader


def make_workdir(workdir: Path, flag: str = "--workdir", remedy: str = "--workdir") -> None:
    """Creates the run's folder and checks that files can be written to it.

    Args:
        workdir: the folder.
        flag: of the command line that names it, for the error message.
        remedy: the flag that can name another folder.

    Raises:
        UserError: if not; says why.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".write_test_{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{flag} {workdir} cannot be written: {error.strerror}; name another with {remedy}"
        ) from error


def open_damage_log(folder: Path, reader: ShardReader, max_fraction: float) -> DamageLog:
    """Opens this host's list of the damaged records of a split, which it met or which are known.

    Too many that are known already end the run now, not at the end of an epoch.

    Args:
        folder: of the list; each host writes a file of its own there.
        reader: of the split.
        max_fraction: see `DamageLog`.

    Raises:
        DataError: too many are damaged.
    """
    host = jax.process_index()
    log = DamageLog(folder / (f"{host}_{FILE_NAME}" if host else FILE_NAME), reader, max_fraction)
    log.check_known()
    return log


class WorkdirLock:
    """Keeps a run's folder to the processes of this run: its first process holds a `FolderLock`.

    All processes of a run make one and get the same answer.

    Attributes:
        notes: for the user, see `FolderLock`.

    Raises:
        UserError: another run uses the folder.
    """

    def __init__(self, workdir: Path):
        self._lock, refusal = None, None
        if jax.process_index() == 0:
            try:
                self._lock = FolderLock(workdir)
            except UserError as error:
                refusal = error
        if jax.process_count() > 1:
            refused = multihost_utils.broadcast_one_to_all(np.array(refusal is not None))
            if refused and refusal is None:
                refusal = UserError(f"{workdir} is in use; the run's first process says by whom")
        if refusal is not None:
            raise refusal
        self.notes = [] if self._lock is None else self._lock.notes

    def check(self) -> None:
        """Raises `RunFailed` if another run has taken the folder; see `FolderLock.check`."""
        if self._lock is not None:
            self._lock.check()

    def __enter__(self) -> "WorkdirLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.release()
