"""The command `prepare_data.py`: its options, help and errors, and the table of its readers."""

import argparse
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from aia_jax.errors import exit_status
from aia_jax.prepare import command
from aia_jax.prepare.command import main
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.readers import READERS
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.reader import open_split
from tests.helpers.prepare_command import arguments, start_command, wait_for
from tests.helpers.raw_sets import InlinePool, write_lines
from tests.helpers.raw_videos import numbered_frames, write_frames, write_video


def test_one_split_and_all_class_ids(raw, tmp_path, capsys):
    assert (
        main(arguments(raw, tmp_path / "out", "--splits", "validation", "--size", "short16")) == 1
    )
    said = capsys.readouterr()
    info = open_dataset(tmp_path / "out")
    assert info.splits == {"validation": 9}
    assert len(info.class_names) == 3
    index = open_split(tmp_path / "out", "validation").index
    assert set(np.minimum(index.height, index.width)) == {16}
    assert f"--config.data.dir={tmp_path / 'out'}" in said.out
    assert (
        said.err == f"error: 1 of 10 videos could not be read: see {tmp_path / 'out' / 'bad.txt'}\n"
    )


def usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error line of a command whose input is wrong."""
    try:
        status = exit_status(lambda: main(words))
    except SystemExit as end:  # argparse
        status = end.code
    said = capsys.readouterr().err
    assert status == 2, said
    assert "Traceback" not in said
    return said


def test_wrong_input(raw, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert "--raw nowhere does not exist" in usage_error(
        ["folders", "--raw", "nowhere", "--out", out], capsys
    )
    (tmp_path / "videos.tar").touch()
    assert "is a file; unpack it" in usage_error(
        ["folders", "--raw", str(tmp_path / "videos.tar"), "--out", out], capsys
    )
    assert "write HEIGHTxWIDTH, as 240x320" in usage_error(
        arguments(raw, tmp_path / "out", "--size", "big"), capsys
    )
    assert "--quality 101" in usage_error(
        arguments(raw, tmp_path / "out", "--quality", "101"), capsys
    )
    assert "--workers" in usage_error(arguments(raw, tmp_path / "out", "--workers", "0"), capsys)
    assert "there is train, validation" in usage_error(
        arguments(raw, tmp_path / "out", "--splits", "dev"), capsys
    )
    assert "--name 1st" in usage_error(arguments(raw, tmp_path / "out", "--name", "1st"), capsys)
    assert "choose a folder outside" in usage_error(arguments(raw, raw / "out"), capsys)
    assert "invalid choice: 'imagenet'" in usage_error(["imagenet"], capsys)
    assert "--raw" in usage_error(["folders", "--out", out], capsys)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    assert "must be a new or empty folder" in usage_error(
        arguments(raw, tmp_path / "taken"), capsys
    )
    assert f"{tmp_path / 'taken'} has thesis.tex" in usage_error(
        arguments(raw, tmp_path / "taken"), capsys
    )
    assert "cannot be written" in usage_error(
        arguments(raw, tmp_path / "videos.tar" / "out"), capsys
    )
    assert not (tmp_path / "out").exists(), "nothing was done"


def test_two_runs_at_once_are_refused(raw, tmp_path, capsys):
    process = start_command(raw, tmp_path / "out")
    wait_for(process, lambda: (tmp_path / "out" / ".prepare" / "plan.json").is_file())
    assert f"is in use by process {process.pid} on host" in usage_error(
        arguments(raw, tmp_path / "out"), capsys
    )
    process.kill()
    process.wait()


def test_without_arguments_it_lists_the_data_sets(capsys, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert main([]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "exit status: 0 done" in listed
    for name, reader in READERS.items():
        assert f" {name} {reader.__doc__.splitlines()[0]} " in listed


def test_the_first_line_of_a_readers_help_is_a_sentence():
    for reader in READERS.values():
        assert reader.__doc__.splitlines()[0].endswith(".")
        assert reader.__doc__.splitlines()[1] == ""


def test_a_reader_is_one_module_and_one_row_of_the_table(tmp_path, capsys, monkeypatch):
    toy = ModuleType("toy", "Toy videos: all in one folder.\n\n  RAW/<video>.mp4\n")
    toy.RECIPE = "configs/toy.py:tsn,copies={copies}"

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--copies", type=int, default=1, metavar="N")

    def read(raw: Path, options: argparse.Namespace) -> RawDataset:
        videos = [
            RawVideo(f"{path.stem} {copy}", path, {"verb": 1}, "train")
            for path in sorted(raw.iterdir())
            for copy in range(options.copies)
        ]
        return RawDataset("toy", {"verb": ("cut", "pour")}, tuple(videos))

    toy.add_arguments, toy.read = add_arguments, read
    monkeypatch.setitem(READERS, "toy", toy)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "toy Toy videos: all in one folder." in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit, match="0"):
        main(["toy", "--help"])
    assert "\n  RAW/<video>.mp4\n" in capsys.readouterr().out

    write_video(tmp_path / "raw" / "a.mp4", numbered_frames(3, 24, 32))
    words = [
        "toy",
        "--raw",
        str(tmp_path / "raw"),
        "--out",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    assert main([*words, "--size", "24x32", "--copies", "2"]) == 0
    assert "--config configs/toy.py:tsn,copies=2 --config.init" in capsys.readouterr().out
    index = open_split(tmp_path / "out", "train").index
    assert sorted(map(index.video_id, range(2))) == ["a 0", "a 1"]
    assert index.labels["verb"].tolist() == [1, 1]

    del toy.RECIPE  # then it trains as own videos do; nothing is prepared again
    assert main([*words, "--size", "24x32", "--copies", "2"]) == 0
    said = capsys.readouterr().out
    assert "--config configs/own_videos_small.py --config.train.batch_size=2" in said
    assert said.endswith(" --config.data.label=verb\n")


def test_rgb_and_flow_in_one_folder(tmp_path, capsys, monkeypatch):
    """The usual layout of TSN; flow lies beside the frames, or in an archive with them."""
    monkeypatch.setattr(command, "LocalPool", InlinePool)
    for number, name in enumerate(("walk/1", "walk/2", "sit, then stand/1", "sit, then stand/2")):
        folder = tmp_path / "raw" / name
        write_frames(folder, numbered_frames(4 + number, 24, 32), "img_%05d.jpg")
        for direction in "xy":
            write_frames(folder, numbered_frames(3, 24, 32), f"flow_{direction}_%05d.jpg")
    assert main(arguments(tmp_path / "raw", tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert (
        "note: folders with other pictures beside the frames: img_%05d.jpg from 1, without "
        "flow_x_….jpg and flow_y_….jpg; --frames chooses" in said
    )
    assert 'classes: 2 ("sit, then stand", walk)' in said
    assert "batch_size=2 " in said and "own_videos_small.py" in said
    lengths = [open_split(tmp_path / "out", s).index.num_frames for s in ("train", "validation")]
    assert sorted(np.concatenate(lengths)) == [4, 5, 6, 7]
    words = arguments(tmp_path / "raw", tmp_path / "flow", "--frames", "flow_x_*.jpg")
    assert main(words) == 0
    assert "other pictures" not in capsys.readouterr().out
    assert set(open_split(tmp_path / "flow", "train").index.num_frames) == {3}
    assert "--frames was None, now img_*.jpg" in usage_error(
        arguments(tmp_path / "raw", tmp_path / "out", "--frames", "img_*.jpg"), capsys
    )


def test_what_a_list_says_otherwise_is_said_after_decoding(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "LocalPool", InlinePool)
    for name in ("a", "b"):
        write_video(tmp_path / "raw" / f"{name}.mp4", numbered_frames(12, 24, 32))
    write_lines(tmp_path / "raw" / "train.txt", "a.mp4 300 0", "b.mp4 13 1")
    words = ["lists", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert main([*words, "--size", "24x32", "--train-list", "train.txt"]) == 0
    said = capsys.readouterr().out
    assert "numbers of frames than the list says: 1 (a.mp4: 300 listed, 12 found; all" in said
    assert "note: there is no split validation to validate with" in said


def test_a_class_that_lost_its_videos_is_named_after_decoding(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "LocalPool", InlinePool)
    for name in ("train/a/1", "val/a/2", "val/b/3"):
        write_video(tmp_path / "raw" / f"{name}.mp4", numbered_frames(3, 24, 32))
    (tmp_path / "raw" / "train" / "b").mkdir()
    (tmp_path / "raw" / "train" / "b" / "4.mp4").write_bytes(b"nothing")
    assert main(arguments(tmp_path / "raw", tmp_path / "out")) == 1
    note = "without training videos, which can only be taken for others: 1 (b)"
    assert capsys.readouterr().out.count(note) == 1
    page = tmp_path / "page.html"
    assert main(["show", str(tmp_path / "out"), "--out", str(page)]) == 0
    assert page.read_text().count(note) == 1
