"""Every outcome of a command has its exit status, and every cause that has a name one line."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from aia_jax.errors import (
    DataError,
    RunFailed,
    Stopped,
    UserError,
    describe,
    exit_status,
    out_of_memory,
    shorten,
)
from tests.helpers.paths import ROOT


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("wrong"), 2, "error: wrong"),
        (DataError("damaged"), 2, "error: damaged"),
        (RunFailed("broken"), 1, "error: broken"),
        (Stopped("after step 4"), 75, "stopped: after step 4"),
        (KeyboardInterrupt(), 1, "error: interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/log"), 1, "/x/log: No space free"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "standard output No space"),
        (OSError(errno.EROFS, "Read-only file system", "/x/log"), 1, "/x/log: Read-only"),
        (OSError(errno.EIO, "Input/output error", "/x/log"), 1, "/x/log: disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/x/log"), 1, "/x/log: quota"),
        (OSError(errno.EACCES, "Permission denied", "/x/data"), 2, "/x/data: permissions"),
        (OSError(errno.ELOOP, "Too many levels", "/x/data"), 2, "/x/data: circle"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 9999), 2, "shorter characters"),
        (FileNotFoundError(errno.ENOENT, "No such file", b"/x/\xff"), 2, "/x/ No such"),
        (OSError(errno.EXDEV, "Cross-device", "/a", None, "/b"), None, ""),
        (FileNotFoundError("no errno"), None, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None, ""),  # of a worker, not of the output
        (MemoryError("std::bad_alloc"), 1, "memory is full std::bad_alloc"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 1, "9 bytes"),
        (RuntimeError("INTERNAL: a bug"), None, ""),
        (ValueError("a bug"), None, ""),
    ],
)
def test_an_outcome_has_its_status_and_one_line(error, status, words, capsys):
    if status is None:  # a fault of this program, whose traceback is needed
        with pytest.raises(type(error)):
            exit_status(raising(error))
        return
    assert exit_status(raising(error)) == status
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and len(text) < 300
    for word in words.split():
        assert word in text, text


def test_what_main_returns_is_the_status():
    assert (exit_status(lambda: None), exit_status(lambda: 1)) == (0, 1)


def test_a_kernels_own_small_memory_is_no_matter_of_the_batch():
    text = "RESOURCE_EXHAUSTED: Shared memory size limit exceeded: requested 262144"
    assert out_of_memory(RuntimeError(text)) is None
    vmem = "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 17M of 16M"
    assert out_of_memory(RuntimeError(vmem)) is None
    hbm = "INTERNAL: x: RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20G\nmore"
    assert out_of_memory(RuntimeError(hbm)) == (
        "the devices' memory is full (Ran out of memory in memory space hbm. Used 20G)"
    )


def test_long_and_odd_values_are_shortened():
    assert describe("abc") == "'abc'" and describe(1.5) == "1.5"
    assert len(describe("x" * 10_000)) < 200 and "10,002 characters" in describe("x" * 10_000)
    assert "type int" in describe(10**5000)
    assert shorten(b"a\xff") == "a\udcff"


PROGRAM = """
    import sys
    from aia_jax.errors import exit_status

    def main():
        {body}

    sys.exit(exit_status(main))
"""


def run(body: str, shell: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command's `main` of one line; `shell` has it as "$@"."""
    program = textwrap.dedent(PROGRAM).format(body=body)
    return subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("lines", [1, 100_000])  # fewer and more than a buffer holds
def test_a_reader_that_leaves_is_no_fault_to_speak_of(lines):
    body = f"for _ in range({lines}): print('x' * 50)"
    done = run(body, '"$@" | true; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_is_full_is_one_line(lines):
    done = run(f"for _ in range({lines}): print('x' * 50)", 'exec "$@" > /dev/full')
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "standard output: No space left" in done.stderr


def test_names_that_the_output_cannot_write_are_escaped():
    done = run(
        "print('Übung \\udcff')", 'exec "$@"', PYTHONIOENCODING="ascii:strict", PYTHONUTF8="0"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xdcbung \\udcff\n", "")
