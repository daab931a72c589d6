"""A folder that one process at a time writes to, also on file systems that several hosts share."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

from aia_jax.errors import RunFailed, UserError

LOCK = ".lock"  # the file in the folder

_BEAT_SECONDS = 5.0  # after which a holder touches its file again
_WATCH_SECONDS = 20.0  # a file of another machine that nobody touches for so long is of a dead one
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class FolderLock:
    """Holds a folder until `release`, the end of a `with` block, or the end of the process.

    The kernel's lock on the file decides between the processes of a machine, and it goes with its
    process, so what a killed one leaves is taken over at once. Between machines that lock may not
    reach, as the file system may keep it to itself. So the holder also touches the file every few
    seconds; a file that names another machine is watched for a while before it is taken over.

    Args:
        folder: exists and can be written to.
        flag: of the command line that names the folder, for error messages.

    Attributes:
        notes: for the user: what was taken over, and whether the file system has no locks.

    Raises:
        UserError: another process holds the folder; names its id and its host.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, flag: str = "--workdir"):
        self.notes: list[str] = []
        path = folder / LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Runs also when nobody holds this object any more, as after an exception.
        self._finalizer = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            has_locks = True
        except BlockingIOError:
            raise _refusal(folder, _read(path), flag) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            has_locks = False
            self.notes.append(
                f"{folder} lies on a file system without locks: only by its signs of life, every "
                f"{_BEAT_SECONDS:g} s, another run in it can be seen"
            )
        holder = _read(path)
        if holder and not (has_locks and holder.get("boot") == _boot_id()):
            self._check_signs_of_life(folder, holder, flag)
        me = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(me).encode(), 0)
        if not has_locks:  # two may have come at the same time: the last to write has it
            time.sleep(1)
            if (other := _read(path)) != me:
                raise _refusal(folder, other, flag)
        self._path, self._me, stop = path, me, threading.Event()
        # A function of its own: a bound method would keep this object alive for ever.
        threading.Thread(target=_beat, args=(path, stop), name="folder-lock", daemon=True).start()
        self._finalizer.detach()
        self._finalizer = weakref.finalize(self, _release, descriptor, path, me, stop)

    def check(self) -> None:
        """Checks that the folder is still this process's, before something in it is replaced.

        A process that was suspended gives no sign of life, and another may have taken over.

        Raises:
            RunFailed: somebody else has the folder now.
        """
        holder = _read(self._path)
        if holder != self._me:
            raise RunFailed(
                f"{self._path.parent} was taken over by {_describe(holder)} while this process was "
                "suspended, or its file .lock was changed: nothing more is written to it"
            )

    def release(self) -> None:
        """Lets others use the folder; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _check_signs_of_life(self, folder: Path, holder: dict[str, Any], flag: str) -> None:
        """Watches a lock file that the kernel's lock alone does not explain.

        Raises:
            UserError: its holder is alive.
        """
        who = _describe(holder)
        print(
            f"{folder} was left by {who}: watching for {_WATCH_SECONDS:g} s whether it is alive",
            flush=True,
        )
        path, end = folder / LOCK, time.monotonic() + _WATCH_SECONDS
        first = _touched(path)
        while time.monotonic() < end:
            time.sleep(_BEAT_SECONDS / 5)
            if _touched(path) != first:
                raise _refusal(folder, holder, flag)
        self.notes.append(f"{folder} was taken over from {who}, which gave no sign of life")


def _release(descriptor: int, path: Path, me: dict[str, Any], stop: threading.Event) -> None:
    stop.set()
    with contextlib.suppress(OSError):  # the folder may be gone
        if _read(path) == me:
            os.ftruncate(descriptor, 0)
    os.close(descriptor)


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def _touched(path: Path) -> tuple[int, bytes]:
    """When the file was touched last, and its content; opening it asks a file server anew."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns, file.read()


def _read(path: Path) -> dict[str, Any]:
    """Who holds the lock by its file; {} if the file does not say."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on host {holder.get('host')}"


def _refusal(folder: Path, holder: dict[str, Any], flag: str) -> UserError:
    since = f" since {holder['since']}" if "since" in holder else ""
    return UserError(
        f"{folder} is in use by {_describe(holder)}{since}: wait for its end, stop it, or name "
        f"another folder with {flag}"
    )


def _boot_id() -> str:
    """Tells one start of a machine from all others; its containers share it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return socket.gethostname()
