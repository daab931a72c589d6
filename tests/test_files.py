"""A file written by aia_jax.files is whole or as it was, whatever ends the writer."""

import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from aia_jax.files import atomic_file, naming, write_text
from tests.helpers.paths import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as file:
        file.write(b"content")
        assert names(tmp_path) == ["file.tmp"]
    assert path.read_bytes() == b"content"
    assert names(tmp_path) == ["file"]


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="in the block"), atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError("in the block")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_rename_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "folder", "text")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("moment", ["os.fsync", "Path.replace"])
def test_a_kill_leaves_the_old_file_and_the_next_writer_clears_up(tmp_path, moment):
    """Kills the writer before the content is on the disk, and just before the rename."""
    path = tmp_path / "file"
    write_text(path, "old")
    program = f"""
import os, signal
from pathlib import Path
from aia_jax.files import write_text
{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_text({str(path)!r}, "new" * 1_000_000)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file", "file.tmp"]
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_concurrent_writers_have_temporary_files_of_their_own(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path, concurrent=True) as mine:
        assert names(tmp_path) == [f"file.{socket.gethostname()}.{os.getpid()}.tmp"]
        write_text(path, "the other writer's")
        mine.write(b"mine")
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["file"]


def test_text_is_utf8_and_bytes_that_are_no_text_can_be_escaped(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path, "w") as file:
        file.write("Übung")
    assert path.read_bytes() == "Übung".encode()
    undecodable = os.fsdecode(b"\xfc.mp4")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, undecodable)
    assert path.read_bytes() == "Übung".encode()
    write_text(path, undecodable, errors="backslashreplace")
    assert path.read_bytes() == rb"\udcfc.mp4"


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing/file"):
        write_text(tmp_path / "missing" / "file", "text")


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    """A limit on the size of files stands for it; the system names no file then."""
    write_text(tmp_path / "file", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match=f"File too large: .*{tmp_path}/file"):
            write_text(tmp_path / "file", "longer than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "old"


def test_an_error_that_has_a_name_keeps_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), naming(tmp_path / "file"):
        (tmp_path / "other").read_bytes()


def test_a_read_only_folder_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    write_text(tmp_path / "file", "old")
    tmp_path.chmod(0o555)
    monkeypatch.chdir(tmp_path)  # an ordinary user cannot walk down to root's temporary folder
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        with pytest.raises(PermissionError, match="file"):
            write_text("file", "new")
    finally:
        os.seteuid(user)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    tmp_path.chmod(0o755)


def test_files_get_the_usual_permissions(tmp_path):
    write_text(tmp_path / "file", "")
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
