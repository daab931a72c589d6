"""A damaged manifest, plan, index or note of a preparation is one line that says what to do."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from aia_jax.errors import DataError, UserError, exit_status
from aia_jax.prepare import command, write
from aia_jax.prepare.verify import verify
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.index import Index, IndexFileError
from aia_jax.shards.manifest import compare_manifest, read_manifest
from tests.helpers.prepare_command import arguments, read_files
from tests.helpers.raw_sets import InlinePool, write_clip

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "not UTF-8": lambda content: content.replace(b'"', b"\xff", 1),
    "nested too deep": lambda content: b"[" * 100_000,
    "thousands of digits": lambda content: b'{"data_set": ' + b"9" * 5000 + b"}",
    "Infinity": lambda content: b'{"data_set": Infinity}',
    "half a character": lambda content: b'{"data_set": "\\ud800"}',
    "a list": lambda content: b"[]",
    "other kinds": lambda content: b'{"data_set": [], "splits": 3, "options": [], "remarks": 1}',
}


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setattr(command, "LocalPool", InlinePool)
    monkeypatch.setattr("aia_jax.prepare.verify.LocalPool", InlinePool)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Four videos of two classes, and what the command writes of them."""
    folder = tmp_path_factory.mktemp("state")
    for number in range(4):
        write_clip(folder / "raw" / "ab"[number % 2] / f"{number}.mp4", 3 + number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "LocalPool", InlinePool)
        assert command.main(arguments(folder / "raw", folder / "out")) == 0
    return folder


@pytest.fixture
def copy(prepared, tmp_path):
    return Path(shutil.copytree(prepared / "out", tmp_path / "out"))


def said(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.startswith("error: ") and error.count("\n") == 1 and len(error) < 700, error
    return error


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest(prepared, copy, tmp_path, capsys, damage):
    path = copy / "manifest.json"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(DataError) as caught:
        read_manifest(copy)
    assert str(caught.value).startswith(f"{path} cannot be read (")
    assert "prepare the data again" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        compare_manifest(open_dataset(copy), ["train"], None)
    words = arguments(prepared / "raw", copy)
    assert str(path) in said(exit_status(lambda: command.main(words)), capsys)
    page = ["show", str(copy), "--out", str(tmp_path / "page.html")]
    assert str(path) in said(exit_status(lambda: command.main(page)), capsys)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_plan(prepared, tmp_path, capsys, damage):
    out = tmp_path / "out"
    (out / ".prepare").mkdir(parents=True)
    plan = json.dumps({"data_set": "folders", "name": "raw"}).encode()
    (out / ".prepare" / "plan.json").write_bytes(DAMAGE[damage](plan))
    line = said(exit_status(lambda: command.main(arguments(prepared / "raw", out))), capsys)
    assert str(out / ".prepare" / "plan.json") in line
    assert f"choose another --out, or delete {out}" in line


def test_a_manifest_of_another_program(prepared, copy, capsys):
    (copy / "manifest.json").write_text('{"name": "my app", "icons": []}')
    line = said(exit_status(lambda: command.main(arguments(prepared / "raw", copy))), capsys)
    assert "manifest.json: no usable data_set" in line and "choose another --out" in line


@pytest.mark.parametrize("damage", ["truncated", "not UTF-8", "nested too deep", "other kinds"])
def test_the_shard_of_damaged_notes_is_written_again(prepared, tmp_path, damage):
    """The run was killed before its end; then the notes of a finished shard were damaged."""
    out = tmp_path / "out"
    kept: dict[str, bytes] = {}

    def keep_and_stop(*arguments, **options):
        for path in (out / ".prepare").glob("*-of-*.json"):
            kept[path.name] = path.read_bytes()
            path.write_bytes(DAMAGE[damage](path.read_bytes()))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aia_jax.prepare.write.format_manifest", keep_and_stop)
        with pytest.raises(KeyboardInterrupt):
            command.main(arguments(prepared / "raw", out))
    assert kept
    assert command.main(arguments(prepared / "raw", out)) == 0
    assert read_files(out) == read_files(prepared / "out")


def test_names_with_control_characters_stay_one_line_of_bad_txt(tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_clip(raw / "a" / "good.mp4", 3)
    for name in ("b\rad", "b\nad", "b\tad", "b\x85ad", "b\u2028ad", "b\x1bad"):
        (raw / "a" / f"{name}.mp4").write_bytes(b"nothing")
    assert command.main(arguments(raw, out, "--val-share", "0")) == 1
    lines = (out / "bad.txt").read_text().splitlines()
    assert len(lines) == 6 and all(line.count("\t") == 1 for line in lines)
    assert any("b\\rad.mp4" in line for line in lines)
    assert verify(out, 1).damage == ()


def test_an_index_that_is_damaged_before_it_is_joined(prepared, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    merge = write.merge_index_files

    def damage_and_merge(parts, path):
        parts[0].write_bytes(parts[0].read_bytes()[:-9])
        merge(parts, path)

    monkeypatch.setattr(write, "merge_index_files", damage_and_merge)
    assert command.main(arguments(prepared / "raw", out)) == 1
    error = capsys.readouterr().err
    assert "an index of the split train was damaged since it was written" in error
    assert "run the same command again" in error and "Traceback" not in error
    monkeypatch.undo()
    monkeypatch.setattr(command, "LocalPool", InlinePool)
    assert command.main(arguments(prepared / "raw", out)) == 0
    assert read_files(out) == read_files(prepared / "out")


def write_index(path: Path, content: bytes) -> Path:
    path.write_bytes(content + struct.pack("<I", google_crc32c.value(content)))
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"AIAINDEX",
        b"AIAINDEX" + b"\xff" * 8,
        b"AIAINDEX" + struct.pack("<Q", 8) + b"not json",
        b"AIAINDEX" + struct.pack("<Q", 8) + b'{"a": 1}',
        b"AIAINDEX" + struct.pack("<Q", 100_000) + b"[" * 100_000,
        b"AIAINDEX" + struct.pack("<Q", 40) + b'{"version": 1, "columns": [["a", 3, 4]]}',
        b"AIAINDEX" + struct.pack("<Q", 43) + b'{"version": 1, "columns": [["a", "<i8", 9]]}',
    ],
)
def test_an_index_of_another_program(tmp_path, content):
    """Its checksum is right, so the file is what its writer meant."""
    with pytest.raises(IndexFileError) as caught:
        Index.load(write_index(tmp_path / "train.index", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said_there"),
    [
        (["--name", "x" * 300], "has 300 letters and becomes part of file names"),
        (["--raw", "/" + "x" * 300], "cannot be used (File name too long)"),
        (["--out", "/" + "x" * 300], "cannot be used (File name too long)"),
        (["--raw", "loop"], "--raw loop cannot be used ("),
        (["--out", "loop"], "--out loop cannot be used ("),
    ],
)
def test_paths_and_names_that_no_system_takes(
    prepared, tmp_path, capsys, monkeypatch, options, said_there
):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    words = [*arguments(prepared / "raw", tmp_path / "out"), *options]
    assert said_there in said(exit_status(lambda: command.main(words)), capsys)
    with pytest.raises(UserError):
        command.main(words)
