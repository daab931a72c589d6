"""The readers of CSV files and of list files: paths, labels, splits, segments, wrong rows."""

import numpy as np
import pytest

from aia_jax.prepare.readers import csv_file, lists
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.reader import open_split
from tests.helpers.raw_sets import (
    prepare_set,
    read,
    read_error,
    records,
    write_clip,
    write_lines,
    write_table,
)
from tests.helpers.raw_videos import decoded, numbered_frames, write_frames


def test_csv(tmp_path):
    raw = tmp_path / "My Videos"
    write_clip(raw / "küche" / "cam 1, größe.mp4", 24, height=48, width=24)
    write_frames(raw / "frames", numbered_frames(9, 24, 32), first=0)
    rows = [
        ["küche/cam 1, größe.mp4", "pour", "train", 0.5, 1.0],
        ["küche/cam 1, größe.mp4", "cut", "train", 1, 1.5],
    ]
    write_table(
        raw / "videos.csv",
        "path,label,split,start,stop",
        *rows,
        ["frames", "pour", "Val", 2, 4],
        ["frames", "wash", "val", "", ""],
    )
    prepare_set(csv_file, raw, tmp_path / "out")
    assert open_dataset(tmp_path / "out").name == "my_videos"
    assert records(tmp_path / "out", "train", "label") == {
        "küche/cam 1, größe.mp4 seconds 0.5 to 1": ("pour", 6),
        "küche/cam 1, größe.mp4 seconds 1 to 1.5": ("cut", 6),
    }
    assert records(tmp_path / "out", "validation", "label") == {
        "frames numbers 2 to 4": ("pour", 3),
        "frames": ("wash", 9),
    }


def test_csv_of_ids_without_splits(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(b"video")
    write_table(tmp_path / "list.csv", "label,path", *([2 * (k % 2), f"{k}.mp4"] for k in range(6)))
    found = read(csv_file, tmp_path, "--val-share", "0.3")
    assert found.class_names == {"label": ("0", "1", "2")}
    assert sorted((video.labels["label"], video.split) for video in found.videos) == [
        *[(0, "train")] * 2, (0, "validation"), *[(2, "train")] * 2, (2, "validation")
    ]  # fmt: skip
    write_lines(tmp_path / "names.txt", "links", "Mitte", "rechts")
    assert read(csv_file, tmp_path, "--classes", "names.txt").class_names["label"] == (
        "links",
        "Mitte",
        "rechts",
    )
    write_lines(tmp_path / "names.txt", "links", "Mitte")
    assert (
        "list.csv, line 3: found the label '2', expected one of the 2 classes, or, "
        "in lists of whole numbers alone, its id"
        in read_error(csv_file, tmp_path, "--classes", "names.txt")
    )
    write_table(tmp_path / "other.csv", "path,label", ["0.mp4", "a"])
    assert "several .csv files (list.csv, other.csv): say which with --csv" in read_error(
        csv_file, tmp_path
    )
    assert read(csv_file, tmp_path, "--csv", "other.csv").class_names["label"] == ("a",)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1.mp4,a,train,2,1"], "line 2: the segment ends before it begins"),
        (["1.mp4,a,train,x,1"], "line 2, start: found 'x', expected seconds, as 12.5"),
        (["1.mp4,a,dev,,"], "line 2: found the split 'dev', expected train, validation or test"),
        (["1.mp4,a,train"], "line 2: found 3 cells, expected 5"),
        (['1.mp4,"a"b,train,,'], "line 2: not CSV"),
        (["1.mp4,a,train,,", "1.mp4,a,train,,"], "1.mp4 is listed twice in the split train"),
        (["2.mp4,a,train,,"], "none of the 1 listed videos is there: looked for"),
        ([], "no videos are listed"),
    ],
)
def test_wrong_csv_rows(tmp_path, rows, said):
    (tmp_path / "1.mp4").write_bytes(b"video")
    write_lines(tmp_path / "videos.csv", "path,label,split,start,stop", *rows)
    assert said in read_error(csv_file, tmp_path)


@pytest.mark.parametrize(
    ("first", "given"), [(0, []), (1, []), (1, ["--first-frame", "1"]), (0, ["--first-frame", "0"])]
)
def test_lists_with_frames(tmp_path, first, given):
    raw = tmp_path / "raw"
    frames = numbered_frames(12, 24, 32)
    write_frames(raw / "a 3 clip", frames, "img_%05d.jpg", first)
    write_clip(raw / "b.mp4", 5)
    write_lines(raw / "train.txt", "a 3 clip 10 1", "b.mp4 5 0")
    write_lines(tmp_path / "val.txt", "b.mp4 5 0")
    prepare_set(
        lists,
        raw,
        tmp_path / "out",
        "--train-list",
        "train.txt",
        "--val-list",
        str(tmp_path / "val.txt"),
        *given,
    )
    assert records(tmp_path / "out", "train", "label") == {"a 3 clip": ("1", 10), "b.mp4": ("0", 5)}
    reader = open_split(tmp_path / "out", "train")
    record = reader.index.num_frames.tolist().index(10)
    levels = decoded(reader.read_frames(record, range(10))).mean((1, 2, 3))
    np.testing.assert_allclose(levels, [pixels.mean() for pixels in frames[:10]], atol=2)


def test_lists_without_frames(tmp_path):
    """A name that ends in a number is no number of frames."""
    for name in ("walk 1", "walk 2"):
        write_frames(tmp_path / name, numbered_frames(2, 24, 32))
    write_lines(tmp_path / "train.txt", "walk 1 0", "walk 2 1")
    write_lines(tmp_path / "classes.txt", "slow", "fast")
    found = read(lists, tmp_path, "--train-list", "train.txt", "--classes", "classes.txt")
    assert [(video.video_id, video.labels["label"], video.segment) for video in found.videos] == [
        ("walk 1", 0, None),
        ("walk 2", 1, None),
    ]
    assert found.class_names["label"] == ("slow", "fast")
    assert "no list: give at least --train-list" in read_error(lists, tmp_path)
    assert "--train-list nowhere.txt: there is no such file" in read_error(
        lists, tmp_path, "--train-list", "nowhere.txt"
    )
    write_lines(tmp_path / "train.txt", "walk 1 0", "walk 2 two")
    assert "train.txt, line 2, LABEL: found 'two', expected a whole number" in read_error(
        lists, tmp_path, "--train-list", "train.txt"
    )
    write_lines(tmp_path / "train.txt", "walk 1 7")
    assert "line 1, LABEL: found the label '7', expected one of the 2 classes" in read_error(
        lists, tmp_path, "--train-list", "train.txt", "--classes", "classes.txt"
    )
