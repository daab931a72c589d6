"""The readers of published data sets, each on a tiny raw folder in its official layout."""

import json
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aia_jax.data.augment import TrainTransform
from aia_jax.data.flips import flip_pairs
from aia_jax.data.pipeline import train_batches
from aia_jax.data.plan import BatchPlan
from aia_jax.errors import UserError
from aia_jax.prepare.command import main
from aia_jax.prepare.readers import diving48, egtea, epic55, kinetics400, ssv1, ssv2, ucf101
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.reader import open_split
from tests.helpers.raw_sets import (
    TEMPLATES,
    epic_row,
    make_diving48,
    make_egtea,
    make_epic55,
    make_kinetics400,
    make_ssv1,
    make_ssv2,
    make_ucf101,
    prepare_set,
    read,
    read_error,
    records,
    write_lines,
    write_table,
)
from tests.helpers.raw_videos import decoded, numbered_frames, write_frames, write_video


def test_ssv1(tmp_path):
    manifest = prepare_set(ssv1, make_ssv1(tmp_path / "raw"), tmp_path / "out")
    info = open_dataset(tmp_path / "out")
    assert (info.name, list(info.class_names)) == ("ssv1", TEMPLATES), "in the order of the file"
    assert flip_pairs(info.class_names).partner.tolist() == [2, 1, 0]
    assert records(tmp_path / "out", "train", "label") == {
        "100218": (TEMPLATES[2], 5),
        "24413": (TEMPLATES[0], 6),
    }
    assert records(tmp_path / "out", "validation", "label") == {"7": (TEMPLATES[1], 7)}
    assert len(manifest["annotations_sha256"]["something-something-v1-labels.csv"]) == 64


@pytest.mark.parametrize("newer", [False, True])
def test_ssv2(tmp_path, newer):
    prepare_set(ssv2, make_ssv2(tmp_path / "raw", newer), tmp_path / "out")
    info = open_dataset(tmp_path / "out")
    assert (info.name, list(info.class_names)) == ("ssv2", sorted(TEMPLATES)), (
        "in the order of the indices"
    )
    assert flip_pairs(info.class_names).partner.tolist() == [0, 2, 1]
    assert records(tmp_path / "out", "train", "label") == {
        "78687": (TEMPLATES[0], 5),
        "9": (TEMPLATES[2], 6),
    }
    assert records(tmp_path / "out", "validation", "label") == {"42326": (TEMPLATES[1], 7)}
    assert info.splits == {"train": 2, "validation": 1} | ({"test": 1} if newer else {})
    if newer:
        assert records(tmp_path / "out", "test", "label") == {"1420": (TEMPLATES[1], 4)}


def test_ssv2_of_two_downloads_or_with_broken_files(tmp_path):
    raw = make_ssv2(tmp_path, newer=True)
    labels = raw / "labels" / "labels.json"
    labels.write_text(json.dumps({"Holding something": "0", "Other": "2"}))
    assert "the class numbers go to 2, but 1 is missing" in read_error(ssv2, raw)
    labels.write_text(json.dumps({"Holding something": "0"}))
    assert (
        "train.json, entry 0: there is no class 'Pushing something from right to left'"
        in read_error(ssv2, raw)
    )
    labels.write_text("{")
    assert "labels.json, line 1: not JSON" in read_error(ssv2, raw)
    labels.write_text("[]")
    assert "found a list, expected a dict" in read_error(ssv2, raw)


def test_the_command_counts_what_is_missing(tmp_path, capsys):
    raw, out = make_ssv2(tmp_path / "raw", newer=True), tmp_path / "out"
    (raw / "20bn-something-something-v2" / "9.webm").unlink()
    (raw / "20bn-something-something-v2" / "1420.webm").unlink()
    arguments = ["ssv2", "--raw", str(raw), "--out", str(out), "--size", "24x32", "--workers", "1"]
    with pytest.raises(
        UserError,
        match=r"all listed videos of the split test are missing; .* --splits train validation",
    ):
        main(arguments)
    assert main([*arguments, "--splits", "train", "validation"]) == 1
    said = capsys.readouterr()
    assert "found 2 of 3 videos (2 train, 1 validation); classes: 3" in said.out
    assert "note: missing of the split train: 1 of 2 listed videos" in said.out
    (command,) = [line for line in said.out.splitlines() if line.startswith("next: ")]
    assert command.startswith("next: python train.py --config configs/ssv2.py:tsn --config.init")
    assert command.endswith(f" --config.data.dir={out}")
    assert said.err == f"error: 1 of 3 videos are missing: see {out / 'bad.txt'}\n"
    assert records(out, "train", "label") == {"78687": (TEMPLATES[0], 5)}


def test_diving48(tmp_path):
    prepare_set(diving48, make_diving48(tmp_path / "raw"), tmp_path / "out")
    assert records(tmp_path / "out", "train", "label") == {
        "_8Vy3dlHg2w_00000": ("Inward 25som NoTwis TUCK", 5),
        "Y-z_00001": ("Back 15som 05Twis FREE", 6),
    }
    assert records(tmp_path / "out", "validation", "label") == {
        "aA_00002": ("Forward Dive NoTwis PIKE", 5)
    }
    (tmp_path / "raw" / "Diving48_V2_train.json").write_text(
        json.dumps([{"vid_name": "a", "label": 3}])
    )
    assert "Diving48_V2_train.json, entry 0: found 3, expected 0 to 2" in read_error(
        diving48, tmp_path / "raw"
    )


def test_egtea(tmp_path):
    raw = make_egtea(tmp_path / "raw")
    prepare_set(egtea, raw, tmp_path / "out")
    info = open_dataset(tmp_path / "out")
    assert (info.name, info.class_names) == (
        "egtea_split1",
        ("Inspect/Read recipe", "Open fridge", "Cut tomato (knife)"),
    )
    found = records(tmp_path / "out", "train", "label")
    assert set(found.values()) == {("Cut tomato (knife)", 4), ("Inspect/Read recipe", 5)}, (
        "ids from 1 in the files, from 0 here"
    )
    assert set(open_split(tmp_path / "out", "train").index.labels["label"]) == {0, 2}
    assert set(records(tmp_path / "out", "validation", "label").values()) == {("Open fridge", 6)}
    second = read(egtea, raw, "--split", "2")
    assert (second.name, second.videos[0].video_id, second.videos[0].labels) == (
        "egtea_split2",
        "P1-R2-X-5",
        {"label": 2},
    )
    assert "no train_split3.txt" in read_error(egtea, raw, "--split", "3")
    write_lines(raw / "train_split1.txt", "P1-R2-X-5 0 1 1")
    assert "train_split1.txt, line 1: found 0, expected 1 to 3" in read_error(egtea, raw)
    write_lines(raw / "action_idx.txt", "Open fridge 1", "Cut tomato 1")
    assert "action_idx.txt, line 2: class 1 is there twice" in read_error(egtea, raw)


def test_epic55(tmp_path):
    """A folder of frames, an archive and a long video, all of 30 frames at 10 a second; P26 is of
    the validation participants.
    """
    raw = tmp_path / "raw"
    rows = [
        epic_row(0, "P01_01", 0.5, 1.5, 2, 8),
        epic_row(1, "P01_01", 1.0, 1.2, 124, 351),
        epic_row(2, "P02_03", 0, 3, 0, 0),
    ]
    make_epic55(
        raw, [*rows, epic_row(3, "P26_10", 0.5, 1.5, 2, 8), epic_row(4, "P27_02", 0.5, 1, 0, 1)]
    )
    frames = numbered_frames(30, 24, 32)
    write_frames(raw / "frames" / "P01" / "P01_01", frames, "frame_%010d.jpg")
    folder = write_frames(tmp_path / "P02_03", frames, "frame_%010d.jpg")
    official = raw / "EPIC_KITCHENS_2018" / "frames_rgb_flow"
    for kind in ("flow", "rgb"):
        (official / kind / "train" / "P02").mkdir(parents=True)
        with tarfile.open(official / kind / "train" / "P02" / "P02_03.tar", "w") as tar:
            if kind == "rgb":
                tar.add(folder, ".")
    write_video(
        raw / "EPIC_KITCHENS_2018" / "videos" / "train" / "P26" / "P26_10.mp4", frames, fps=10
    )
    (raw / "EPIC_KITCHENS_2018/videos/train/P26/P26_10.mp4").rename(
        raw / "EPIC_KITCHENS_2018/videos/train/P26/P26_10.MP4"
    )
    manifest = prepare_set(epic55, raw, tmp_path / "out")
    verbs, nouns = (open_dataset(tmp_path / "out", label).class_names for label in ("verb", "noun"))
    assert (len(verbs), len(nouns), verbs[124], nouns[8]) == (125, 352, "verb:124", "noun:8")
    assert records(tmp_path / "out", "train", "verb", "noun") == {
        "P01_01_0": ("verb:2", "noun:8", 10),
        "P01_01_1": ("verb:124", "noun:351", 2),
        "P02_03_2": ("verb:0", "noun:0", 30),
    }
    assert records(tmp_path / "out", "validation", "verb", "noun") == {
        "P26_10_3": ("verb:2", "noun:8", 10)
    }
    validation = manifest["splits"]["validation"]
    assert (
        validation["expected"],
        validation["found"],
        validation["missing"],
        validation["bad"],
    ) == (2, 1, 1, 0)
    assert (
        tmp_path / "out" / "bad.txt"
    ).read_text() == f"{raw / 'P27' / 'P27_02.tar'}, numbers 6 to 10\tmissing\n"
    assert any(
        "classes (verb) without videos, which keep their ids: 122" in remark
        for remark in manifest["remarks"]
    )
    # Frame numbers and time stamps cut the same frames.
    for split, record_id in (
        ("train", "P01_01_0"),
        ("validation", "P26_10_3"),
    ):
        reader = open_split(tmp_path / "out", split)
        record = next(k for k in range(len(reader)) if reader.index.video_id(k) == record_id)
        levels = decoded(reader.read_frames(record, range(10))).mean((1, 2, 3))
        np.testing.assert_allclose(levels, [pixels.mean() for pixels in frames[5:15]], atol=3)
    reader = open_split(tmp_path / "out", "train")
    # Each is a run of its own on the same records.
    for label, names in (
        ("verb", verbs),
        ("noun", nouns),
    ):
        transform = TrainTransform(2, 16, flip_pairs(names).partner, resize=(24, 32))
        batches = train_batches(
            reader,
            BatchPlan(3, 3, seed=0),
            transform,
            start_step=0,
            label=label,
            threads=1,
            prefetch=0,
        )
        batch = next(batches)
        batches.close()
        assert batch["labels"].tolist() == reader.index.labels[label][batch["records"]].tolist()
    features = tfds.builder_from_directory(tmp_path / "out").info.features
    assert (features["verb"].num_classes, features["noun"].num_classes) == (125, 352)


def test_epic55_with_wrong_files(tmp_path):
    raw = make_epic55(tmp_path, [epic_row(0, "P01_01", 0, 1, 125, 0)])
    write_frames(raw / "P01" / "P01_01", numbered_frames(3, 24, 32))
    assert "line 2, verb_class: found 125, expected 0 to 124" in read_error(epic55, raw)
    make_epic55(raw, [epic_row(0, "P01_01", 2, 1, 0, 0)])
    assert "the segment ends before it begins" in read_error(epic55, raw)
    write_table(raw / "EPIC_train_action_labels.csv", "uid,video_id", [0, "P01_01"])
    assert "no column participant_id, start_timestamp" in read_error(epic55, raw)
    make_epic55(raw, [epic_row(0, "P01_01", 0, 1, 3, 0)])
    (raw / "EPIC_verb_classes.csv").unlink()
    found = read(epic55, raw)
    assert (len(found.class_names["verb"]), found.class_names["verb"][3]) == (125, "verb 3")
    assert "named by their numbers" in found.remarks[0]


def test_kinetics400(tmp_path):
    raw = make_kinetics400(tmp_path / "raw")
    (raw / "train" / "bbb_000000_000010.mp4").write_bytes(b"an error page")
    manifest = prepare_set(kinetics400, raw, tmp_path / "out")
    assert open_dataset(tmp_path / "out").class_names == ("abseiling", "eating cake", "zumba")
    assert records(tmp_path / "out", "train", "label") == {"-a_B_000010_000020": ("zumba", 5)}
    assert records(tmp_path / "out", "validation", "label") == {
        "ccc_123456_123466": ("eating cake", 7)
    }
    train = manifest["splits"]["train"]
    assert (train["expected"], train["found"], train["missing"], train["bad"]) == (3, 1, 1, 1)
    reasons = dict(
        line.split("\t") for line in (tmp_path / "out" / "bad.txt").read_text().splitlines()
    )
    assert reasons.pop(str(raw / "train" / "gone_000005_000015.mp4")) == "missing"
    assert list(reasons) == [str(raw / "train" / "bbb_000000_000010.mp4")]
    assert "missing of the split train: 1 of 3 listed videos" in manifest["remarks"]
    assert "test.csv has no labels: its clips are left out" in manifest["remarks"]


def test_ucf101_up_to_the_first_batch(tmp_path):
    raw = make_ucf101(tmp_path / "raw")
    prepare_set(ucf101, raw, tmp_path / "out")
    assert open_dataset(tmp_path / "out").name == "ucf101_split1"
    assert set(records(tmp_path / "out", "train", "label").values()) == {
        ("ApplyEyeMakeup", 4),
        ("Archery", 5),
    }
    assert set(records(tmp_path / "out", "validation", "label").values()) == {("Archery", 6)}
    reader = open_split(tmp_path / "out", "train")
    transform = TrainTransform(
        3, 16, flip_pairs(open_dataset(tmp_path / "out").class_names).partner, resize=(24, 32)
    )
    batches = train_batches(
        reader, BatchPlan(len(reader), 2, seed=0), transform, start_step=0, threads=1, prefetch=0
    )
    batch = next(batches)
    batches.close()
    assert batch["clips"].shape == (2, 3, 16, 16, 3)
    np.testing.assert_array_equal(batch["labels"], reader.index.labels["label"][batch["records"]])
    assert sorted(batch["labels"].tolist()) == [0, 1]
    levels = batch["clips"].mean((2, 3, 4))
    assert (np.diff(levels, axis=1) > 0).all(), "the frames get brighter, as in the videos"
    write_lines(raw / "ucfTrainTestlist" / "testlist01.txt", "Fencing/v_Fencing_g01_c01.avi")
    assert "testlist01.txt, line 1: found 'Fencing/v_Fencing_g01_c01.avi'" in read_error(
        ucf101, raw
    )


MAKERS = {
    ssv1: make_ssv1,
    diving48: make_diving48,
    egtea: make_egtea,
    kinetics400: make_kinetics400,
    ucf101: make_ucf101,
}


@pytest.mark.parametrize("reader", [ssv1, ssv2, diving48, egtea, epic55, kinetics400, ucf101])
def test_the_wrong_root_folder(tmp_path, reader):
    """The message says which file was looked for, and what the folder has."""
    write_lines(tmp_path / "thesis.tex", "")
    said = read_error(reader, tmp_path)
    assert any(
        name in said
        for name in ("labels", "Diving48_vocab.json", "action_idx.txt", "train.csv", "classInd.txt")
    )
    assert f"{tmp_path} has thesis.tex" in said


@pytest.mark.parametrize("reader", MAKERS)
def test_a_root_folder_one_too_high_and_videos_elsewhere(tmp_path, reader):
    raw = MAKERS[reader](tmp_path / "inner")
    assert f"did you mean --raw {raw}?" in read_error(reader, tmp_path)
    for path in raw.rglob("*"):
        if path.suffix in (".mp4", ".avi", ".jpg"):
            path.unlink()
    for folder in (raw / "20bn-something-something-v1").glob("*"):
        folder.rmdir()
    said = read_error(reader, raw)
    assert "listed videos is there: looked for" in said
    assert "give --raw the folder that holds them" in said


def test_annotations_that_are_not_text(tmp_path):
    raw = make_egtea(tmp_path)
    write_lines(raw / "action_idx.txt", "Öffnen 1", encoding="latin-1")
    assert "action_idx.txt: not UTF-8 text" in read_error(egtea, raw)
    write_lines(raw / "action_idx.txt", "Öffnen 1", "Schälen 2", "Fünf 3", encoding="utf-8-sig")
    assert read(egtea, raw).class_names["label"][0] == "Öffnen"
