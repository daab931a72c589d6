"""Writes files so that a reader finds the old content or the new one, never a part of it."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Puts the file's name into an `OSError` of the block that has none.

    The system names the file that cannot be opened, but not the one that cannot be written because
    the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_file(path: str | Path, mode: str = "wb", *, concurrent: bool = False) -> Iterator[IO]:
    """Opens a temporary file beside `path`, which is renamed to `path` when the block ends.

    The content is on the disk before the rename, and the rename before the function returns. After
    an exception in the block, `path` is as it was and the temporary file is removed.

    A kill (or a power failure) before the rename leaves `path` as it was, and beside it the
    temporary file `<name>.tmp`, which the next writer of `path` overwrites. A kill after it leaves
    the new content, whole.

    Args:
        path: the file; an older one is replaced.
        mode: "wb", or "w" for text in UTF-8.
        concurrent: says that another process may write the same `path` at the same time. The
            temporary file is then `<name>.<host>.<process id>.tmp`; the last rename wins. Nobody
            overwrites what a killed process leaves: the caller removes `*.tmp`.

    Yields:
        The open temporary file.

    Raises:
        OSError: if the folder is missing or read-only, or the disk is full; names the file.
    """
    path = Path(path)
    writer = f".{socket.gethostname()}.{os.getpid()}" if concurrent else ""
    temporary = path.with_name(f"{path.name}{writer}.tmp")
    file = temporary.open(mode, encoding=None if "b" in mode else "utf-8")
    try:
        with naming(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the exception in flight says more
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_text(path: str | Path, text: str, errors: str = "strict") -> None:
    """Replaces the content of `path` as `atomic_file` does.

    Args:
        path: the file.
        text: written in UTF-8.
        errors: as in `str.encode`: "backslashreplace" for text with file names in it, which may
            hold bytes that are no text.
    """
    with atomic_file(path) as file:
        file.write(text.encode(errors=errors))


def sync_folder(folder: Path) -> None:
    """Brings the names in `folder` to the disk, so that a power failure does not undo a rename.

    Some network and FUSE file systems cannot do that, and a folder may be writable but not
    readable. The names are in place then all the same, and no error is raised.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        with naming(folder):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
