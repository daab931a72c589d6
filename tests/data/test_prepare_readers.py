"""Every reader on a tiny raw tree in its official layout: from the files as they are shipped to labels, frames and a first batch."""

import argparse
import csv
import json
import signal
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from raw_videos import decoded, numbered_frames, write_frames, write_video

from aia_jax.data.augment import TrainTransform
from aia_jax.data.datasets import flip_pairs, open_dataset
from aia_jax.data.pipeline import train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.data.prepare import csv_file, diving48, egtea, epic55, kinetics400, lists, ssv1, ssv2, ucf101
from aia_jax.data.prepare.command import main
from aia_jax.data.prepare.frame_size import FrameSize
from aia_jax.data.prepare.item import RawDataset
from aia_jax.data.prepare.manifest import plan_of
from aia_jax.data.prepare.write import Storage, prepare
from aia_jax.data.tfrecord import open_split
from aia_jax.errors import UserError


class HerePool:
    """Does the work of a pool's processes in this one."""

    def submit(self, function: Callable, job: Any) -> Future:
        future = Future()
        future.set_result(function(job))
        return future

    def done(self) -> tuple[int, int]:
        return 0, 0

    def explain(self, error: BaseException) -> str:
        return ""


def options(reader: ModuleType, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    reader.add_arguments(parser)
    return parser.parse_args(arguments)


def read(reader: ModuleType, raw: Path, *arguments: str) -> RawDataset:
    return reader.read(raw, options(reader, *arguments))


def error(reader: ModuleType, raw: Path, *arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        read(reader, raw, *arguments)
    return str(caught.value)


def prepared(reader: ModuleType, raw: Path, out: Path, *arguments: str) -> dict[str, Any]:
    """The manifest of the prepared data set."""
    dataset = read(reader, raw, *arguments)
    storage = Storage(FrameSize(height=24, width=32), quality=90)
    return prepare(dataset, plan_of(reader.__name__, {}, dataset), storage, out, HerePool(), "the command")


def records(out: Path, split: str, *labels: str) -> dict[str, tuple]:
    """Video id → the names of its labels, then its number of frames."""
    index = open_split(out, split).index
    names = [open_dataset(out, label).class_names for label in labels]
    return {
        index.video_id(k): (*(of[index.labels[label][k]] for label, of in zip(labels, names, strict=True)), int(index.num_frames[k]))
        for k in range(len(index.num_frames))
    }


def clip(path: Path, count: int = 4, height: int = 24, width: int = 32) -> Path:
    return write_video(path, numbered_frames(count, height, width))


def text(path: Path, *rows: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding=encoding)
    return path


def table(path: Path, columns: str, *rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


# Something-Something: V1's order is that of its file, V2's that of its indices; a flip swaps other ids in each.
TEMPLATES = ["Pushing something from right to left", "Holding something", "Pushing something from left to right"]


def make_ssv1(raw: Path) -> Path:
    text(raw / "something-something-v1-labels.csv", *TEMPLATES)
    text(raw / "something-something-v1-train.csv", f"100218;{TEMPLATES[2]}", f"24413;{TEMPLATES[0]}")
    text(raw / "something-something-v1-validation.csv", f"7;{TEMPLATES[1]}")
    text(raw / "something-something-v1-test.csv", "4")
    for video, count in (("100218", 5), ("24413", 6), ("7", 7), ("4", 3)):
        write_frames(raw / "20bn-something-something-v1" / video, numbered_frames(count, 20, 36))
    return raw


def make_ssv2(raw: Path, newer: bool) -> Path:
    name = "labels/{}.json" if newer else "something-something-v2-{}.json"
    items = {"train": [("78687", 0), ("9", 2)], "validation": [("42326", 1)]}
    contents = {"labels": {template: str(k) for k, template in enumerate(sorted(TEMPLATES))}}
    for split, videos in items.items():
        contents[split] = [
            {"id": video, "label": "pushing a box", "template": TEMPLATES[k].replace("something", "[something]"), "placeholders": ["a box"]}
            for video, k in videos
        ]
    contents["test"] = [{"id": "1420"}]
    for part, content in contents.items():
        text(raw / name.format(part), json.dumps(content))
    if newer:
        text(raw / "labels" / "test-answers.csv", f"1420;{TEMPLATES[1]}")
    for video, count in (("78687", 5), ("9", 6), ("42326", 7), ("1420", 4)):
        clip(raw / "20bn-something-something-v2" / f"{video}.webm", count)
    return raw


def test_ssv1(tmp_path):
    manifest = prepared(ssv1, make_ssv1(tmp_path / "raw"), tmp_path / "out")
    info = open_dataset(tmp_path / "out")
    assert (info.name, list(info.class_names)) == ("ssv1", TEMPLATES), "in the order of the file"
    assert flip_pairs(info.class_names).partner.tolist() == [2, 1, 0]
    assert records(tmp_path / "out", "train", "label") == {"100218": (TEMPLATES[2], 5), "24413": (TEMPLATES[0], 6)}
    assert records(tmp_path / "out", "validation", "label") == {"7": (TEMPLATES[1], 7)}
    assert len(manifest["annotations_sha256"]["something-something-v1-labels.csv"]) == 64


@pytest.mark.parametrize("newer", [False, True])
def test_ssv2(tmp_path, newer):
    prepared(ssv2, make_ssv2(tmp_path / "raw", newer), tmp_path / "out")
    info = open_dataset(tmp_path / "out")
    assert (info.name, list(info.class_names)) == ("ssv2", sorted(TEMPLATES)), "in the order of the indices"
    assert flip_pairs(info.class_names).partner.tolist() == [0, 2, 1]
    assert records(tmp_path / "out", "train", "label") == {"78687": (TEMPLATES[0], 5), "9": (TEMPLATES[2], 6)}
    assert records(tmp_path / "out", "validation", "label") == {"42326": (TEMPLATES[1], 7)}
    assert info.splits == {"train": 2, "validation": 1} | ({"test": 1} if newer else {})
    if newer:
        assert records(tmp_path / "out", "test", "label") == {"1420": (TEMPLATES[1], 4)}


def test_ssv2_of_two_downloads_or_with_broken_files(tmp_path):
    raw = make_ssv2(tmp_path, newer=True)
    labels = raw / "labels" / "labels.json"
    labels.write_text(json.dumps({"Holding something": "0", "Other": "2"}))
    assert "the class numbers go to 2, but 1 is missing" in error(ssv2, raw)
    labels.write_text(json.dumps({"Holding something": "0"}))
    assert "train.json, entry 0: there is no class 'Pushing something from right to left'" in error(ssv2, raw)
    labels.write_text("{")
    assert "labels.json, line 1: not JSON" in error(ssv2, raw)
    labels.write_text("[]")
    assert "found a list, expected a dict" in error(ssv2, raw)


def test_the_command_counts_what_is_missing(tmp_path, capsys):
    raw, out = make_ssv2(tmp_path / "raw", newer=True), tmp_path / "out"
    (raw / "20bn-something-something-v2" / "9.webm").unlink()
    (raw / "20bn-something-something-v2" / "1420.webm").unlink()
    arguments = ["ssv2", "--raw", str(raw), "--out", str(out), "--size", "24x32", "--workers", "1"]
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(UserError, match=r"all listed videos of the split test are missing; .* --splits train validation"):
            main(arguments)
        assert main([*arguments, "--splits", "train", "validation"]) == 1
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    said = capsys.readouterr()
    assert "found 2 of 3 videos (2 train, 1 validation); classes: 3" in said.out
    assert "note: missing of the split train: 1 of 2 listed videos" in said.out
    assert said.err == f"error: 1 of 3 videos are missing: see {out / 'bad.txt'}\n"
    assert records(out, "train", "label") == {"78687": (TEMPLATES[0], 5)}


VOCABULARY = [["Back", "15som", "05Twis", "FREE"], ["Forward", "Dive", "NoTwis", "PIKE"], ["Inward", "25som", "NoTwis", "TUCK"]]


def make_diving48(raw: Path) -> Path:
    text(raw / "Diving48_vocab.json", json.dumps(VOCABULARY))
    items = {"train": [("_8Vy3dlHg2w_00000", 2), ("Y-z_00001", 0)], "test": [("aA_00002", 1)]}
    for split, videos in items.items():
        entries = [{"vid_name": name, "label": label, "start_frame": 0, "end_frame": 9} for name, label in videos]
        text(raw / f"Diving48_V2_{split}.json", json.dumps(entries))
        for number, (name, _) in enumerate(videos):
            clip(raw / "rgb" / f"{name}.mp4", 5 + number, height=48, width=32)
    return raw


def test_diving48(tmp_path):
    prepared(diving48, make_diving48(tmp_path / "raw"), tmp_path / "out")
    assert records(tmp_path / "out", "train", "label") == {
        "_8Vy3dlHg2w_00000": ("Inward 25som NoTwis TUCK", 5),
        "Y-z_00001": ("Back 15som 05Twis FREE", 6),
    }
    assert records(tmp_path / "out", "validation", "label") == {"aA_00002": ("Forward Dive NoTwis PIKE", 5)}
    (tmp_path / "raw" / "Diving48_V2_train.json").write_text(json.dumps([{"vid_name": "a", "label": 3}]))
    assert "Diving48_V2_train.json, entry 0: found 3, expected 0 to 2" in error(diving48, tmp_path / "raw")


def make_egtea(raw: Path) -> Path:
    text(raw / "action_idx.txt", "Inspect/Read recipe 1", "Open fridge 2", "Cut tomato (knife) 3")
    clips = {
        name: 4 + k for k, name in enumerate(("P26-R05-Cheeseburger-1002316-1004005-F024051", "OP01-R01-PastaSalad-1-2-F3-F4", "P1-R2-X-5"))
    }
    for split, order in ((1, (0, 1, 2)), (2, (2, 0, 1))):
        names = [list(clips)[k] for k in order]
        text(raw / f"train_split{split}.txt", f"{names[0]} 3 1 2 3 ", f"{names[1]} 1 1 1")
        text(raw / f"test_split{split}.txt", f"{names[2]} 2 1 4")
    for name, count in clips.items():
        clip(raw / "cropped_clips" / "-".join(name.split("-")[:3]) / f"{name}.mp4", count)
    return raw


def test_egtea(tmp_path):
    raw = make_egtea(tmp_path / "raw")
    prepared(egtea, raw, tmp_path / "out")
    info = open_dataset(tmp_path / "out")
    assert (info.name, info.class_names) == ("egtea_split1", ("Inspect/Read recipe", "Open fridge", "Cut tomato (knife)"))
    found = records(tmp_path / "out", "train", "label")
    assert set(found.values()) == {("Cut tomato (knife)", 4), ("Inspect/Read recipe", 5)}, "ids from 1 in the files, from 0 here"
    assert set(open_split(tmp_path / "out", "train").index.labels["label"]) == {0, 2}
    assert set(records(tmp_path / "out", "validation", "label").values()) == {("Open fridge", 6)}
    second = read(egtea, raw, "--split", "2")
    assert (second.name, second.videos[0].video_id, second.videos[0].labels) == ("egtea_split2", "P1-R2-X-5", {"label": 2})
    assert "no train_split3.txt" in error(egtea, raw, "--split", "3")
    text(raw / "train_split1.txt", "P1-R2-X-5 0 1 1")
    assert "train_split1.txt, line 1: found 0, expected 1 to 3" in error(egtea, raw)
    text(raw / "action_idx.txt", "Open fridge 1", "Cut tomato 1")
    assert "action_idx.txt, line 2: class 1 is there twice" in error(egtea, raw)


EPIC_COLUMNS = (
    "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,noun,noun_class,"
    "all_nouns,all_noun_classes"
)


def epic_row(uid: int, video: str, start: float, stop: float, verb: int, noun: int) -> list[Any]:
    stamps = [f"00:00:{second:05.2f}" for second in (start, stop)]
    frames = [int(start * 10) + 1, int(stop * 10)]
    return [uid, video[:3], video, "open, the door", *stamps, *frames, "open", verb, "door", noun, "['door', 'pan:dust']", f"[{noun}]"]


def make_epic55(raw: Path, rows: Sequence[Sequence[Any]]) -> Path:
    table(raw / "EPIC_train_action_labels.csv", EPIC_COLUMNS, *rows)
    for kind, count in (("verb", 125), ("noun", 352)):
        table(raw / f"EPIC_{kind}_classes.csv", f"{kind}_id,class_key,{kind}s", *([k, f"{kind}:{k}", f"['{k}']"] for k in range(count)))
    return raw


def test_epic55(tmp_path):
    """A folder of frames, an archive and a long video, all of 30 frames at 10 a second; P26 is of the validation participants."""
    raw = tmp_path / "raw"
    rows = [epic_row(0, "P01_01", 0.5, 1.5, 2, 8), epic_row(1, "P01_01", 1.0, 1.2, 124, 351), epic_row(2, "P02_03", 0, 3, 0, 0)]
    make_epic55(raw, [*rows, epic_row(3, "P26_10", 0.5, 1.5, 2, 8), epic_row(4, "P27_02", 0.5, 1, 0, 1)])
    frames = numbered_frames(30, 24, 32)
    write_frames(raw / "frames" / "P01" / "P01_01", frames, "frame_%010d.jpg")
    folder = write_frames(tmp_path / "P02_03", frames, "frame_%010d.jpg")
    official = raw / "EPIC_KITCHENS_2018" / "frames_rgb_flow"
    for kind in ("flow", "rgb"):
        (official / kind / "train" / "P02").mkdir(parents=True)
        with tarfile.open(official / kind / "train" / "P02" / "P02_03.tar", "w") as tar:
            if kind == "rgb":
                tar.add(folder, ".")
    write_video(raw / "EPIC_KITCHENS_2018" / "videos" / "train" / "P26" / "P26_10.mp4", frames, fps=10)
    (raw / "EPIC_KITCHENS_2018/videos/train/P26/P26_10.mp4").rename(raw / "EPIC_KITCHENS_2018/videos/train/P26/P26_10.MP4")
    manifest = prepared(epic55, raw, tmp_path / "out")
    verbs, nouns = (open_dataset(tmp_path / "out", label).class_names for label in ("verb", "noun"))
    assert (len(verbs), len(nouns), verbs[124], nouns[8]) == (125, 352, "verb:124", "noun:8")
    assert records(tmp_path / "out", "train", "verb", "noun") == {
        "P01_01_0": ("verb:2", "noun:8", 10),
        "P01_01_1": ("verb:124", "noun:351", 2),
        "P02_03_2": ("verb:0", "noun:0", 30),
    }
    assert records(tmp_path / "out", "validation", "verb", "noun") == {"P26_10_3": ("verb:2", "noun:8", 10)}
    validation = manifest["splits"]["validation"]
    assert (validation["expected"], validation["found"], validation["missing"], validation["bad"]) == (2, 1, 1, 0)
    assert (tmp_path / "out" / "bad.txt").read_text() == f"{raw / 'P27' / 'P27_02.tar'}, numbers 6 to 11\tmissing\n"
    assert any("classes (verb) without videos, which keep their ids: 122" in remark for remark in manifest["remarks"])
    for split, record_id in (("train", "P01_01_0"), ("validation", "P26_10_3")):  # frame numbers and time stamps cut the same frames
        reader = open_split(tmp_path / "out", split)
        record = next(k for k in range(len(reader)) if reader.index.video_id(k) == record_id)
        levels = decoded(reader.read_frames(record, range(10))).mean((1, 2, 3))
        np.testing.assert_allclose(levels, [pixels.mean() for pixels in frames[5:15]], atol=3)
    features = tfds.builder_from_directory(tmp_path / "out").info.features
    assert (features["verb"].num_classes, features["noun"].num_classes) == (125, 352)


def test_epic55_with_wrong_files(tmp_path):
    raw = make_epic55(tmp_path, [epic_row(0, "P01_01", 0, 1, 125, 0)])
    write_frames(raw / "P01" / "P01_01", numbered_frames(3, 24, 32))
    assert "line 2, verb_class: found 125, expected 0 to 124" in error(epic55, raw)
    make_epic55(raw, [epic_row(0, "P01_01", 2, 1, 0, 0)])
    assert "the segment ends before it begins" in error(epic55, raw)
    table(raw / "EPIC_train_action_labels.csv", "uid,video_id", [0, "P01_01"])
    assert "no column participant_id, start_timestamp" in error(epic55, raw)
    make_epic55(raw, [epic_row(0, "P01_01", 0, 1, 3, 0)])
    (raw / "EPIC_verb_classes.csv").unlink()
    found = read(epic55, raw)
    assert (len(found.class_names["verb"]), found.class_names["verb"][3]) == (125, "verb 3")
    assert "named by their numbers" in found.remarks[0]


def make_kinetics400(raw: Path) -> Path:
    columns = "label,youtube_id,time_start,time_end,split"
    train = [["zumba", "-a_B", 10, 20, "train"], ["abseiling", "bbb", 0, 10, "train"], ["eating cake", "gone", 5, 15, "train"]]
    table(raw / "train.csv", columns, *train)
    table(raw / "validate.csv", columns + ",is_cc", ["eating cake", "ccc", 123456, 123466, "val", 0])
    table(raw / "test.csv", "youtube_id,time_start,time_end,split", ["ddd", 1, 11, "test"])
    clip(raw / "train" / "zumba" / "-a_B_000010_000020.mp4", 5)
    clip(raw / "train" / "bbb_000000_000010.mp4", 6)
    clip(raw / "val" / "ccc_123456_123466.mp4", 7)
    return raw


def test_kinetics400(tmp_path):
    raw = make_kinetics400(tmp_path / "raw")
    (raw / "train" / "bbb_000000_000010.mp4").write_bytes(b"an error page")
    manifest = prepared(kinetics400, raw, tmp_path / "out")
    assert open_dataset(tmp_path / "out").class_names == ("abseiling", "eating cake", "zumba")
    assert records(tmp_path / "out", "train", "label") == {"-a_B_000010_000020": ("zumba", 5)}
    assert records(tmp_path / "out", "validation", "label") == {"ccc_123456_123466": ("eating cake", 7)}
    train = manifest["splits"]["train"]
    assert (train["expected"], train["found"], train["missing"], train["bad"]) == (3, 1, 1, 1)
    reasons = dict(line.split("\t") for line in (tmp_path / "out" / "bad.txt").read_text().splitlines())
    assert reasons.pop(str(raw / "train" / "gone_000005_000015.mp4")) == "missing"
    assert list(reasons) == [str(raw / "train" / "bbb_000000_000010.mp4")]
    assert "missing of the split train: 1 of 3 listed videos" in manifest["remarks"]
    assert "test.csv has no labels: its clips are left out" in manifest["remarks"]


def make_ucf101(raw: Path) -> Path:
    lists_folder = raw / "ucfTrainTestlist"
    text(lists_folder / "classInd.txt", "1 ApplyEyeMakeup", "2 Archery")
    text(lists_folder / "trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1", "Archery/v_Archery_g08_c01.avi 2")
    text(lists_folder / "testlist01.txt", "Archery/v_Archery_g01_c01.avi")
    for name, count in (("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", 4), ("Archery/v_Archery_g08_c01", 5), ("Archery/v_Archery_g01_c01", 6)):
        clip(raw / "UCF-101" / f"{name}.avi", count)
    return raw


def test_ucf101_up_to_the_first_batch(tmp_path):
    raw = make_ucf101(tmp_path / "raw")
    prepared(ucf101, raw, tmp_path / "out")
    assert open_dataset(tmp_path / "out").name == "ucf101_split1"
    assert set(records(tmp_path / "out", "train", "label").values()) == {("ApplyEyeMakeup", 4), ("Archery", 5)}
    assert set(records(tmp_path / "out", "validation", "label").values()) == {("Archery", 6)}
    reader = open_split(tmp_path / "out", "train")
    transform = TrainTransform(3, 16, flip_pairs(open_dataset(tmp_path / "out").class_names).partner, resize=(24, 32))
    batches = train_batches(reader, BatchPlan(len(reader), 2, seed=0), transform, start_step=0, threads=1, prefetch=0)
    batch = next(batches)
    batches.close()
    assert batch["clips"].shape == (2, 3, 16, 16, 3)
    np.testing.assert_array_equal(batch["labels"], reader.index.labels["label"][batch["records"]])
    assert sorted(batch["labels"].tolist()) == [0, 1]
    levels = batch["clips"].mean((2, 3, 4))
    assert (np.diff(levels, axis=1) > 0).all(), "the frames get brighter, as in the videos"
    text(raw / "ucfTrainTestlist" / "testlist01.txt", "Fencing/v_Fencing_g01_c01.avi")
    assert "testlist01.txt, line 1: found 'Fencing/v_Fencing_g01_c01.avi'" in error(ucf101, raw)


def test_csv(tmp_path):
    raw = tmp_path / "My Videos"
    clip(raw / "küche" / "cam 1, größe.mp4", 24, height=48, width=24)
    write_frames(raw / "frames", numbered_frames(9, 24, 32), first=0)
    rows = [["küche/cam 1, größe.mp4", "pour", "train", 0.5, 1.0], ["küche/cam 1, größe.mp4", "cut", "train", 1, 1.5]]
    table(raw / "videos.csv", "path,label,split,start,stop", *rows, ["frames", "pour", "Val", 2, 4], ["frames", "wash", "val", "", ""])
    prepared(csv_file, raw, tmp_path / "out")
    assert open_dataset(tmp_path / "out").name == "my_videos"
    assert records(tmp_path / "out", "train", "label") == {
        "küche/cam 1, größe.mp4 seconds 0.5 to 1": ("pour", 6),
        "küche/cam 1, größe.mp4 seconds 1 to 1.5": ("cut", 6),
    }
    assert records(tmp_path / "out", "validation", "label") == {"frames numbers 2 to 5": ("pour", 3), "frames": ("wash", 9)}


def test_csv_of_ids_without_splits(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(b"video")
    table(tmp_path / "list.csv", "label,path", *([2 * (k % 2), f"{k}.mp4"] for k in range(6)))
    found = read(csv_file, tmp_path, "--val-share", "0.3")
    assert found.class_names == {"label": ("0", "1", "2")}
    assert sorted((video.labels["label"], video.split) for video in found.videos) == [
        *[(0, "train")] * 2, (0, "validation"), *[(2, "train")] * 2, (2, "validation")
    ]  # fmt: skip
    text(tmp_path / "names.txt", "links", "Mitte", "rechts")
    assert read(csv_file, tmp_path, "--classes", "names.txt").class_names["label"] == ("links", "Mitte", "rechts")
    text(tmp_path / "names.txt", "links", "Mitte")
    assert "list.csv, line 3: found the label '2', expected one of the 2 classes or its id" in error(
        csv_file, tmp_path, "--classes", "names.txt"
    )
    table(tmp_path / "other.csv", "path,label", ["0.mp4", "a"])
    assert "several .csv files (list.csv, other.csv): say which with --csv" in error(csv_file, tmp_path)
    assert read(csv_file, tmp_path, "--csv", "other.csv").class_names["label"] == ("a",)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1.mp4,a,train,2,1"], "line 2: the segment ends before it begins"),
        (["1.mp4,a,train,x,1"], "line 2: found 'x' and '1' as start and stop, expected seconds"),
        (["1.mp4,a,dev,,"], "line 2: found the split 'dev', expected train, validation or test"),
        (["1.mp4,a,train"], "line 2: found 3 cells, expected 5"),
        (["1.mp4,a,train,,", "1.mp4,a,train,,"], "1.mp4 is listed twice in the split train"),
        (["2.mp4,a,train,,"], "none of the 1 listed videos is there: looked for"),
        ([], "no videos are listed"),
    ],
)
def test_wrong_csv_rows(tmp_path, rows, said):
    (tmp_path / "1.mp4").write_bytes(b"video")
    text(tmp_path / "videos.csv", "path,label,split,start,stop", *rows)
    assert said in error(csv_file, tmp_path)


@pytest.mark.parametrize(("first", "given"), [(0, []), (1, []), (1, ["--first-frame", "1"]), (0, ["--first-frame", "0"])])
def test_lists_with_frames(tmp_path, first, given):
    raw = tmp_path / "raw"
    frames = numbered_frames(12, 24, 32)
    write_frames(raw / "a 3 clip", frames, "img_%05d.jpg", first)
    clip(raw / "b.mp4", 5)
    text(raw / "train.txt", "a 3 clip 10 1", "b.mp4 5 0")
    text(tmp_path / "val.txt", "b.mp4 5 0")
    prepared(lists, raw, tmp_path / "out", "--train-list", "train.txt", "--val-list", str(tmp_path / "val.txt"), *given)
    assert records(tmp_path / "out", "train", "label") == {"a 3 clip": ("1", 10), "b.mp4": ("0", 5)}
    reader = open_split(tmp_path / "out", "train")
    record = reader.index.num_frames.tolist().index(10)
    levels = decoded(reader.read_frames(record, range(10))).mean((1, 2, 3))
    np.testing.assert_allclose(levels, [pixels.mean() for pixels in frames[:10]], atol=2)


def test_lists_without_frames(tmp_path):
    """A name that ends in a number is no number of frames."""
    for name in ("walk 1", "walk 2"):
        write_frames(tmp_path / name, numbered_frames(2, 24, 32))
    text(tmp_path / "train.txt", "walk 1 0", "walk 2 1")
    text(tmp_path / "classes.txt", "slow", "fast")
    found = read(lists, tmp_path, "--train-list", "train.txt", "--classes", "classes.txt")
    assert [(video.video_id, video.labels["label"], video.part) for video in found.videos] == [("walk 1", 0, None), ("walk 2", 1, None)]
    assert found.class_names["label"] == ("slow", "fast")
    assert "no list: give at least --train-list" in error(lists, tmp_path)
    assert "--train-list nowhere.txt: there is no such file" in error(lists, tmp_path, "--train-list", "nowhere.txt")
    text(tmp_path / "train.txt", "walk 1 0", "walk 2 two")
    assert "train.txt, line 2, LABEL: found 'two', expected a whole number" in error(lists, tmp_path, "--train-list", "train.txt")
    text(tmp_path / "train.txt", "walk 1 7")
    assert "walk 1 has the label 7" in error(lists, tmp_path, "--train-list", "train.txt", "--classes", "classes.txt")


MAKERS = {ssv1: make_ssv1, diving48: make_diving48, egtea: make_egtea, kinetics400: make_kinetics400, ucf101: make_ucf101}


@pytest.mark.parametrize("reader", [ssv1, ssv2, diving48, egtea, epic55, kinetics400, ucf101])
def test_the_wrong_root_folder(tmp_path, reader):
    """The message says which file was looked for, and what the folder has."""
    text(tmp_path / "thesis.tex", "")
    said = error(reader, tmp_path)
    assert any(name in said for name in ("labels", "Diving48_vocab.json", "action_idx.txt", "train.csv", "classInd.txt"))
    assert f"{tmp_path} has thesis.tex" in said


@pytest.mark.parametrize("reader", MAKERS)
def test_a_root_folder_one_too_high_and_videos_elsewhere(tmp_path, reader):
    raw = MAKERS[reader](tmp_path / "inner")
    assert f"did you mean --raw {raw}?" in error(reader, tmp_path)
    for path in raw.rglob("*"):
        if path.suffix in (".mp4", ".avi", ".jpg"):
            path.unlink()
    for folder in (raw / "20bn-something-something-v1").glob("*"):
        folder.rmdir()
    said = error(reader, raw)
    assert "listed videos is there: looked for" in said
    assert "give --raw the folder that holds them" in said


def test_annotations_that_are_not_text(tmp_path):
    raw = make_egtea(tmp_path)
    text(raw / "action_idx.txt", "Öffnen 1", encoding="latin-1")
    assert "action_idx.txt: not UTF-8 text" in error(egtea, raw)
    text(raw / "action_idx.txt", "Öffnen 1", "Schälen 2", "Fünf 3", encoding="utf-8-sig")
    assert read(egtea, raw).class_names["label"][0] == "Öffnen"
