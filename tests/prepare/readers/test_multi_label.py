"""Videos with several labels each, from the table that lists them to the page that shows them."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aia_jax.errors import UserError
from aia_jax.prepare.command import main
from aia_jax.prepare.readers import csv_file
from aia_jax.prepare.show import write_page
from aia_jax.prepare.verify import verify
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.reader import open_split
from aia_jax.shards.tfrecord import RecordWriter, scan_records
from tests.helpers.raw_sets import read, read_error, write_lines, write_table
from tests.helpers.raw_videos import numbered_frames, write_frames

ROWS = [
    ["0", "turn left; pour", "train"],
    ["1", "pour", "train"],
    ["2", "turn right;stir;pour", "train"],
    ["3", "stir ;stir", "val"],
    ["4", "pour;turn right", "val"],
]
NAMES = ("pour", "stir", "turn left", "turn right")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for name, *_ in ROWS:
        write_frames(folder / name, numbered_frames(4, 24, 32))
    write_table(folder / "videos.csv", "path,label,split", *ROWS)
    return folder


def prepare(raw: Path, out: Path, *options: str) -> int:
    words = ["csv", "--raw", str(raw), "--out", str(out), "--size", "24x32", "--workers", "1"]
    return main([*words, *options])


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "data"
    assert prepare(raw, out, "--multi-label", "--videos-per-shard", "2") == 0
    return out


def sets(folder: Path, split: str) -> dict[str, list[int]]:
    """The labels of each video, in their order."""
    index = open_split(folder, split).index
    found = index.label_set("label")
    return {
        index.video_id(k): found.values[found.start[k] : found.start[k + 1]].tolist()
        for k in range(len(index))
    }


def test_a_cell_names_several_labels(prepared):
    info = open_dataset(prepared)
    assert (info.class_names, info.multilabel) == (NAMES, True)
    assert sets(prepared, "train") == {"0": [2, 0], "1": [0], "2": [3, 1, 0]}
    assert sets(prepared, "validation") == {"3": [1], "4": [0, 3]}
    index = open_split(prepared, "train").index
    first = {index.video_id(k): int(index.labels["label"][k]) for k in range(3)}
    assert first == {"0": 2, "1": 0, "2": 3}
    # The index that was joined while writing is that of a scan.
    index.save(prepared.parent / "joined.index")
    Index.build(sorted(prepared.glob("*train.tfrecord*"))).save(prepared.parent / "built.index")
    files = [(prepared.parent / f"{name}.index").read_bytes() for name in ("joined", "built")]
    assert files[0] == files[1]


def test_what_the_manifest_counts_and_the_same_command_again(raw, prepared):
    manifest = json.loads((prepared / "manifest.json").read_bytes())
    counts = {
        split: facts["videos_per_class"]["label"] for split, facts in manifest["splits"].items()
    }
    assert counts == {
        "train": {"pour": 3, "stir": 1, "turn left": 1, "turn right": 1},
        "validation": {"pour": 1, "stir": 1, "turn left": 0, "turn right": 1},
    }
    assert manifest["remarks"] == [
        "labels of a video: 1 to 3, 1.8 on average",
        "classes without videos in the split validation, which measures nothing of them: 1 "
        "(turn left)",
    ]
    assert "--multi-label" in manifest["command"].split()
    assert prepare(raw, prepared, "--multi-label", "--videos-per-shard", "2") == 0
    with pytest.raises(UserError, match="--multi-label was True, now None"):
        prepare(raw, prepared, "--videos-per-shard", "2")


def test_all_is_well_or_a_label_is_not(prepared, tmp_path):
    assert verify(prepared, 1).damage == ()
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    shard = sorted(copy.glob("*-train.tfrecord-*"))[0]
    (first, *rest) = [record.data for record in scan_records(shard)]
    video_id = open_split(prepared, "train").index.video_id(0)
    reader = open_split(prepared, "train")
    changed = encode_example(
        reader.read_frames(0, range(4)), {"label": (2, 4)}, video_id, 0.0, 24, 32
    )
    assert changed != first
    with RecordWriter(shard) as writer:
        for record in (changed, *rest):
            writer.write(record)
    reasons = " ".join(one.reason for one in verify(copy, 1).damage)
    assert "label is 4, valid are 0 to 3" in reasons
    assert "the index says otherwise" in reasons


def test_the_page_names_every_label(prepared, tmp_path):
    write_page(prepared, tmp_path / "page.html", clips=5, seed=0)
    text = (tmp_path / "page.html").read_text()
    assert "turn right; stir; pour" in text and "labels 3, 1, 0" in text
    # Mirrored, the clip of a side has the other side and keeps the rest.
    assert "turn right; pour" in text and "labels 3, 0" in text


def test_one_label_a_video_is_as_ever(raw):
    found = read(csv_file, raw)
    assert {type(video.labels["label"]) for video in found.videos} == {int}
    assert "turn left; pour" in found.class_names["label"]
    assert found.label_sets == ()
    assert any("4 (" in one and "give --multi-label" in one for one in found.remarks)


@pytest.mark.parametrize("cell", ["a;", ";a", "a; ;b", ";"])
def test_nothing_between_two_semicolons(tmp_path, cell):
    write_lines(tmp_path / "videos.csv", "path,label", "1.mp4,a", f"2.mp4,{cell}")
    assert (
        f"videos.csv, line 3: found the labels {cell!r}, expected names with one semicolon between "
        "two, as pour;stir"
    ) in read_error(csv_file, tmp_path, "--multi-label")


def test_a_label_that_is_no_class(tmp_path):
    write_lines(tmp_path / "names.txt", "a", "b")
    write_lines(tmp_path / "videos.csv", "path,label", "1.mp4,a", "2.mp4,b;c")
    options = "--multi-label", "--classes", "names.txt"
    assert "line 3: found the label 'c', expected one of the 2 classes" in read_error(
        csv_file, tmp_path, *options
    )
    write_lines(tmp_path / "videos.csv", "path,label", "1.mp4,a", "2.mp4,b;a;b")
    (tmp_path / "2.mp4").touch()
    assert [video.labels["label"] for video in read(csv_file, tmp_path, *options).videos] == [
        (0,),
        (1, 0),
    ]


def test_a_file_of_classes_goes_with_the_labels(tmp_path):
    write_lines(tmp_path / "names.txt", "a", "b")
    write_lines(tmp_path / "videos.csv", "path,label", "1.mp4,a", "2.mp4,b ; a")
    assert (
        "videos.csv, line 3: found 'b ; a', several of the classes, expected one; if videos may "
        "have several labels, give --multi-label"
    ) in read_error(csv_file, tmp_path, "--classes", "names.txt")
    write_lines(tmp_path / "names.txt", "a", "a;b", "b")
    assert "names.txt: found the class 'a;b', but with --multi-label a semicolon" in read_error(
        csv_file, tmp_path, "--multi-label", "--classes", "names.txt"
    )
    write_lines(tmp_path / "names.txt", "")
    assert "names.txt: found no class names, expected one a line" in read_error(
        csv_file, tmp_path, "--classes", "names.txt"
    )


def test_both_splits_have_every_label(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        (tmp_path / f"{number}.mp4").touch()
        labels = rng.choice(8, size=rng.integers(1, 4), replace=False, p=np.arange(1, 9) / 36)
        rows.append([f"{number}.mp4", ";".join(f"c{k}" for k in labels)])
    write_table(tmp_path / "videos.csv", "path,label", *rows)
    found = read(csv_file, tmp_path, "--multi-label", "--val-share", "0.2")
    again = read(csv_file, tmp_path, "--multi-label", "--val-share", "0.2")
    assert found.videos == again.videos
    counts = {
        split: Counter(
            label
            for video in found.videos
            if split in ("both", video.split)
            for label in video.labels["label"]
        )
        for split in ("train", "validation", "both")
    }
    for label, total in counts["both"].items():
        assert counts["train"][label] >= 1
        assert 0.1 <= counts["validation"][label] / total <= 0.35, (label, total)
