"""What goes wrong by the user's hand or wish, and the exit status that says so."""

import contextlib
import errno
import os
import re
import select
import sys
from collections.abc import Callable

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2  # one line says what to change; what was saved before stays
EXIT_STOPPED = 75  # saved before the end; the same command goes on (EX_TEMPFAIL of sysexits.h)

# Causes that lie in the path that the user gave: the same command fails again.
_WRONG_PATH = {
    errno.ENOENT: "give a path that exists",
    errno.ENOTDIR: "a part of the path is a file; give a path whose folders are folders",
    errno.EISDIR: "it is a folder; give the path of a file",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "its symbolic links lead in a circle; give a path that ends",
}
# Causes that lie in the machine: the same command may succeed later.
_MACHINE = {
    errno.ENOSPC: "free some space there, or use another disk",
    errno.EDQUOT: "free some of your quota, or use another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "use a folder that can be written",
    errno.EIO: "the disk or the connection to it fails; look at the system's log",
    errno.ESTALE: "the network file system lost the file; run the command again",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "the system has too many open files",
    errno.ETXTBSY: "the file is in use",
    errno.EBUSY: "the file is in use",
}

# XLA's words for a chip's or a kernel's own small memory, which no batch size changes.
_SMALL_MEMORIES = re.compile(r"shared memory|memory space (vmem|smem|sflag)", re.IGNORECASE)


_LONGEST = 120  # characters of a found value that an error shows


class UserError(ValueError):
    """The user's input is wrong.

    The text is one line that names what was found, what was expected and what to do.
    """


class DataError(UserError):
    """A data set is missing, damaged or not the one that the config describes."""


class RunFailed(RuntimeError):
    """A run cannot go on though its input looked right.

    The text is one line that names the step, the reason and the last good checkpoint.
    """


class Stopped(Exception):
    """The run was asked to stop (SIGTERM, preemption) and has saved.

    The same command goes on from there.
    """


def describe(found: object) -> str:
    """A found value for an error's line, as Python writes it; shortened."""
    try:
        return shorten(repr(found))
    except Exception:  # Python writes out no number of 4,300 digits, a foreign class anything
        return f"a value of type {type(found).__name__} that cannot be written out"


def shorten(text: str | bytes | os.PathLike) -> str:
    """A text for an error's line: its beginning and its end if it is long."""
    text = os.fsdecode(text)
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}…{text[-half:]} ({len(text):,} characters)"


def out_of_memory(error: BaseException) -> str | None:
    """What an exception says about memory that ran out, in one line; None if it does not.

    XLA says RESOURCE_EXHAUSTED, when it compiles a program or when it runs one; NumPy and C++ code
    raise `MemoryError`.
    """
    text = str(error)
    if isinstance(error, MemoryError):
        # On Linux such an error comes from a limit, or from one request above all that there is.
        return f"this machine's memory is full ({' '.join(text.split()) or 'MemoryError'})"
    if "RESOURCE_EXHAUSTED" not in text or _SMALL_MEMORIES.search(text):
        return None
    line = text[text.index("RESOURCE_EXHAUSTED") :].partition("\n")[0]
    return f"the devices' memory is full ({line.removeprefix('RESOURCE_EXHAUSTED: ')[:200]})"


def exit_status(main: Callable[[], int | None]) -> int:
    """Runs a command's `main` and turns its outcome into the exit status that the README lists.

    A cause that has a name gets one line on the error stream. Text that the output's encoding
    lacks, such as a file name in another encoding, is written in escapes.

    Returns:
        What `main` returned (0 for None), 2 after a `UserError` and after a path that cannot be
        used, 75 after `Stopped`; 1 after `RunFailed`, a full disk or memory, Ctrl-C, and where
        nobody reads the output any more. Any other exception goes on: a traceback and status 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
    except UserError as error:
        status = _report(f"error: {error}", EXIT_WRONG_INPUT)
    except RunFailed as failure:
        status = _report(f"error: {failure}", EXIT_FAILED)
    except Stopped as stop:
        status = _report(f"stopped: {stop}", EXIT_STOPPED)
    except KeyboardInterrupt:
        status = _report("error: interrupted by Ctrl-C", EXIT_FAILED)
    except OSError as error:
        if (status := _report_os_error(error)) is None:
            raise
    except Exception as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
        status = _report(f"error: {reason}; use a machine with more, or less at once", EXIT_FAILED)
    return _end_output(status)


def _report(line: str, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody may be listening
        print(line, file=sys.stderr)
    return status


def _report_os_error(error: OSError) -> int | None:
    """Prints the line of an `OSError` and returns the status; None if its cause has no name."""
    if isinstance(error, BrokenPipeError) and _reader_has_gone():
        return EXIT_FAILED  # nobody reads on, as in `| head`, which is no fault
    remedies = _WRONG_PATH | _MACHINE
    files = " to ".join(shorten(name) for name in (error.filename, error.filename2) if name)
    if error.errno not in remedies or (not files and error.errno in _WRONG_PATH):
        return None
    status = EXIT_WRONG_INPUT if error.errno in _WRONG_PATH else EXIT_FAILED
    where = files or "a file or the standard output"
    return _report(f"error: {where}: {error.strerror}; {remedies[error.errno]}", status)


def _reader_has_gone() -> bool:
    """Whether the standard output is a pipe without a reader.

    Another broken pipe, to a worker process, is a fault that has to be seen.
    """
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call, or the output is no file
        return False


def _end_output(status: int) -> int:
    """Writes what the standard output still holds.

    Returns:
        `status`, or 1 in place of 0 where the output is lost: a full disk is said, and a pipe whose
        reader has gone is not.
    """
    if sys.stdout is None:  # the shell closed it
        return status
    try:
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        pass
    except OSError as error:
        _report(f"error: the standard output: {error.strerror}", EXIT_FAILED)
    # At its end the interpreter would try again, and complain.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status or EXIT_FAILED
