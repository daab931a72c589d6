"""Lists and tables that contradict the videos or themselves: one line says which line does."""

import json
from pathlib import Path

import pytest

from aia_jax.prepare.readers import csv_file, diving48, epic55, kinetics400, lists, ssv1, ssv2
from tests.helpers.raw_sets import (
    epic_row,
    make_diving48,
    make_epic55,
    make_kinetics400,
    make_ssv1,
    make_ssv2,
    prepare_set,
    read,
    read_error,
    write_clip,
    write_lines,
    write_table,
)
from tests.helpers.raw_videos import numbered_frames, write_frames


@pytest.fixture
def raw(tmp_path):
    """Twelve videos, which are only listed, and a folder of frames."""
    raw = tmp_path / "raw"
    for number in range(12):
        path = raw / ("sub dir" if number > 9 else "") / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video %d" % number)
    (raw / "frames").mkdir()
    return raw


TRAIN = ("--train-list", "train.txt")


def list_error(raw, *lines, options=TRAIN):
    write_lines(raw / "train.txt", *lines)
    said = read_error(lists, raw, *options)
    assert "\n" not in said
    return said


def list_videos(raw, *lines, options=TRAIN):
    write_lines(raw / "train.txt", *lines)
    return read(lists, raw, *options).videos


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1.mp4 0 0", "2.mp4 9 1"], "train.txt, line 1, FRAMES: found 0, expected 1 to 21474836"),
        (["1.mp4 0 3"], "line 1: found '1.mp4 0 3', read as PATH FRAMES LABEL; but in this list"),
        (["1.mp4 9 0", "frames -1 1"], "train.txt, line 2, FRAMES: found -1"),
        (["frames 99999999999 1"], "train.txt, line 1, FRAMES: found 99999999999"),
        (["1.mp4 -1"], "train.txt, line 1, LABEL: found -1, expected at least 0"),
        (["1.mp4 9 -1"], "train.txt, line 1, LABEL: found -1, expected at least 0"),
        (["1.mp4 1", "2.mp4 3 5"], "line 2: found 2 numbers behind 2.mp4, expected PATH LABEL"),
        (["1.mp4 9 1 2", "2.mp4 9 5"], "line 1: found 3 numbers behind 1.mp4, expected PATH FR"),
        (["1.mp4,1"], "line 1: found '1.mp4,1', expected PATH LABEL; for lines with commas"),
        (["1.mp4 1_0"], "line 1, LABEL: found '1_0', expected a whole number"),
        (["1.mp4 １"], "line 1, LABEL: found '１', expected a whole number"),
        (["1.mp4 20210403", "2.mp4 0"], "line 1, LABEL: found the label 20210403, but the lists"),
        (["1.mp4 4000000000"], "line 1, LABEL: found the label 4000000000, but the lists"),
        (["1.mp4 0\r2.mp4 1", "2.mp4 1"], "line 1: found a carriage return in '1.mp4 0\\r2.mp4 1'"),
        (["1.mp4 " + "9" * 5000], "line 1, LABEL: found "),
        (["1.mp4 0", "1.mp4 1"], "lines 1 and 2: 1.mp4 is listed twice in the split train, as '0'"),
        (["1.mp4 0", "./1.mp4 0"], "lines 1 and 2: ./1.mp4, which is 1.mp4, is listed twice"),
    ],
)  # fmt: skip
def test_wrong_lines_of_lists(raw, lines, said):
    assert said in list_error(raw, *lines)


def test_path_label_frames_is_not_taken_for_path_frames_label(raw):
    """Eleven videos of three classes would become eleven classes."""
    rows = [f"{k}.mp4 {k % 3} {50 + 7 * k}" for k in range(10)]
    said = list_error(raw, *rows)
    assert "FRAMES are 0, 1, 2, as class ids are, and LABEL goes up to 113" in said
    assert "--columns path,label,frames" in said
    videos = list_videos(raw, *rows, options=(*TRAIN, "--columns", "path,label,frames"))
    assert [video.labels["label"] for video in videos] == [k % 3 for k in range(10)]
    assert [video.listed_frames for video in videos] == [50 + 7 * k for k in range(10)]


@pytest.mark.parametrize("line", ['"sub dir/10.mp4" 1', "'sub dir/10.mp4' 1", r"sub dir\10.mp4 1"])
def test_quotes_and_backslashes_are_understood(raw, line):
    (video,) = list_videos(raw, line)
    assert (video.video_id, video.missing) == ("sub dir/10.mp4", False)
    (raw / "videos.csv").write_text("path,label\n" + line[:-2].replace('"', "'") + ",a\n")
    (video,) = read(csv_file, raw).videos
    assert (video.video_id, video.missing) == ("sub dir/10.mp4", False)


def test_a_path_that_no_system_takes_is_a_missing_video(raw):
    videos = list_videos(raw, "1.mp4 0", "x" * 5000 + " 0", "y" * 300 + "/2.mp4 0")
    assert [video.missing for video in videos] == [False, True, True]


def test_a_path_that_may_not_be_looked_at_is_left_to_decoding(raw, monkeypatch):
    """Decoding says so in bad.txt; one such path ends nothing."""
    look = Path.stat

    def refuse(self, **options):
        if self.name == "2.mp4":
            raise PermissionError(13, "Permission denied", str(self))
        return look(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)  # root may look at everything
    videos = list_videos(raw, "1.mp4 0", "2.mp4 0")
    assert [(video.missing, video.size) for video in videos] == [(False, 7), (False, 0)]


def test_a_far_number_of_frames_is_noted_with_the_one_found(tmp_path):
    raw = tmp_path / "raw"
    write_clip(raw / "a.mp4", 12)
    write_clip(raw / "b.mp4", 12)
    write_lines(raw / "train.txt", "a.mp4 300 0", "b.mp4 13 1")
    manifest = prepare_set(lists, raw, tmp_path / "out", *TRAIN)
    assert manifest["splits"]["train"]["other_lengths"] == {"a.mp4": [300, 12]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1.mp4,-1,,", "2.mp4,0,,"], "line 2: found -1, expected at least 0"),
        (["1.mp4,4000000000,,", "2.mp4,0,,"], "line 2: found the label 4000000000"),
        (["1.mp4,a,0,1e300"], "line 2, stop: found '1e300', expected seconds from 0 to 2^31"),
        (["1.mp4,a,nan,1"], "line 2, start: found 'nan', expected seconds"),
        (["1.mp4,a,0,1_0"], "line 2, stop: found '1_0', expected seconds"),
        (["1.mp4,a,3,"], "line 2: found a start and no stop"),
        (["frames,a,0,99999999999"], "line 2, stop: found 99999999999, expected 0 to"),
        (["frames,a,0.5,1"], "line 2, start: found '0.5', expected a whole number"),
        ([",a,,"], "line 2: nothing in the column path"),
        (["1.mp4,,,"], "line 2: nothing in the column label"),
        (["1.mp4,a,,", "./1.mp4,b,,"], "lines 2 and 3: ./1.mp4, which is 1.mp4, is listed twice"),
        (["1.mp4,1,,", "2.mp4,１,,"], "the classes '1' and '１' differ in case, spaces or accents"),
        (["1.mp4,Run,,", "2.mp4,run,,"], "the classes 'Run' and 'run' differ in case, spaces or"),
        (['1.mp4,"a\rb",,'], "cannot name a class (it holds the control character '\\r')"),
        (["1.mp4," + "9" * 5000 + ",,"], "cannot name a class (it has 5,000 characters)"),
    ],
)
def test_wrong_rows_of_tables(raw, rows, said):
    (raw / "videos.csv").write_text("\n".join(["path,label,start,stop", *rows, ""]), newline="")
    found = read_error(csv_file, raw)
    assert said in found and "\n" not in found and len(found) < 500


def test_labels_beside_a_file_of_classes(raw):
    write_table(raw / "videos.csv", "path,label", ["1.mp4", "20210403"], ["2.mp4", "20210404"])
    write_lines(raw / "c.txt", "20210404", "20210403")
    found = read(csv_file, raw, "--classes", "c.txt", "--val-share", "0")
    assert [video.labels["label"] for video in found.videos] == [1, 0], "numbers may be names"
    write_lines(raw / "c.txt", "1", "0")
    write_table(raw / "videos.csv", "path,label", ["1.mp4", "0"], ["2.mp4", "1"])
    assert "is the id of the class '1' and the name of class 1" in read_error(
        csv_file, raw, "--classes", "c.txt"
    )
    write_lines(raw / "c.txt", "gro\u0308ße", "b")
    write_table(raw / "videos.csv", "path,label", ["1.mp4", "größe"], ["2.mp4", "b"])
    assert "line 2: found 'größe', which differs from the class" in read_error(
        csv_file, raw, "--classes", "c.txt"
    )


def remarks(raw, *rows, columns="path,label,split"):
    write_table(raw / "videos.csv", columns, *rows)
    return read(csv_file, raw).remarks


def test_a_video_in_two_splits_is_noted(raw):
    said = remarks(raw, ["1.mp4", "a", "train"], ["./1.mp4", "a", "val"])
    assert said == ("videos that are in several splits, whose scores then say too much: 1 (1.mp4)",)
    rows = [["1.mp4", "a", "train", 0, 2], ["1.mp4", "a", "val", 1, 3], ["2.mp4", "a", "val", 0, 1]]
    (said,) = remarks(raw, *rows, columns="path,label,split,start,stop")
    assert "in several splits, whose scores then say too much: 1 (1.mp4 seconds 0 to 2)" in said
    rows[1][3:] = [2, 3]
    (said,) = remarks(raw, *rows, columns="path,label,split,start,stop")
    assert said.startswith("videos of which different parts are in several splits: 1 (1.mp4")
    assert remarks(raw, ["1.mp4", "a", "train"], ["2.mp4", "a", "val"]) == ()
    (raw / "sub dir" / "1.mp4").write_bytes(b"video 1")
    (said,) = remarks(raw, ["1.mp4", "a", "train"], ["sub dir/1.mp4", "a", "val"])
    assert said.startswith("videos of one name, size and beginning in several splits, perhaps")
    (raw / "sub dir" / "1.mp4").write_bytes(b"video x")
    assert remarks(raw, ["1.mp4", "a", "train"], ["sub dir/1.mp4", "a", "val"]) == ()


def test_columns_that_are_not_read_are_noted(raw):
    rows = [["1.mp4", "a", "train", ""], ["2.mp4", "a", "train", ""]]
    assert remarks(raw, *rows, columns="path,label,splits,Note") == (
        "columns of videos.csv that are not read: splits, note",
    )


def write_json(path, value):
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("label", [1.7, True, None, "1_0", " 1", "１", -1])
def test_json_labels_are_whole_numbers(tmp_path, label):
    raw = make_diving48(tmp_path)
    write_json(raw / "Diving48_V2_train.json", [{"vid_name": "a", "label": label}])
    assert "Diving48_V2_train.json, entry 0: found " in read_error(diving48, raw)


def test_json_names_are_names(tmp_path):
    raw = make_diving48(tmp_path / "a")
    write_json(raw / "Diving48_V2_train.json", [{"vid_name": 1.5, "label": 0}])
    assert "entry 0, vid_name: found 1.5, expected a name" in read_error(diving48, raw)
    double = {"vid_name": "_8Vy3dlHg2w_00000"}
    write_json(raw / "Diving48_V2_train.json", [double | {"label": 0}, double | {"label": 1}])
    said = read_error(diving48, raw)
    assert "entries 0 and 1: _8Vy3dlHg2w_00000 is listed twice in the split train, as 'Back" in said
    write_json(raw / "Diving48_vocab.json", [["Back", True]])
    assert "Diving48_vocab.json, entry 0: found True, expected a name" in read_error(diving48, raw)
    raw = make_ssv2(tmp_path / "b", newer=True)
    (raw / "labels" / "train.json").write_text('[{"id": "1", "template": "\\ud800"}]')
    assert "train.json: not usable JSON ('\\ud800' holds half" in read_error(ssv2, raw)
    (raw / "labels" / "labels.json").write_text('{"a": "0", "a": "1"}')
    assert "labels.json: not usable JSON (the key 'a' is there twice" in read_error(ssv2, raw)


def test_annotations_of_published_sets(tmp_path):
    raw = make_ssv1(tmp_path / "ssv1")
    write_lines(raw / "something-something-v1-train.csv", ";Holding something")
    assert "train.csv, line 1: found ';Holding" in read_error(ssv1, raw)
    raw = make_kinetics400(tmp_path / "k400")
    rows = [["zumba", "-a_B", 10, 20, "train"], ["", "x", 0, 10, "train"]]
    write_table(raw / "train.csv", "label,youtube_id,time_start,time_end,split", *rows)
    assert "train.csv, line 3: nothing in the column label" in read_error(kinetics400, raw)
    raw = make_epic55(tmp_path / "epic", [epic_row(0, "P01_01", 0, 10**9, 0, 0)])
    write_frames(raw / "P01" / "P01_01", numbered_frames(1, 24, 32))
    assert "line 2, stop_frame: found 10000000000, expected 0 to" in read_error(epic55, raw)


def test_links_that_form_loops_end_the_search(tmp_path):
    raw = make_epic55(tmp_path / "epic", [epic_row(0, "P01_01", 0, 1, 0, 0)])
    write_frames(raw / "x" / "P01" / "P01_01", numbered_frames(1, 24, 32))
    for link in range(12):
        (raw / f"loop{link}").symlink_to(".")  # searched seven deep: 12 ** 6 folders
    (raw / "self").symlink_to("self")
    assert not read(epic55, raw).videos[0].missing
    raw = make_kinetics400(tmp_path / "k400")
    for link in range(40):
        (raw / f"loop{link}").symlink_to(".")
    assert [video.missing for video in read(kinetics400, raw).videos] == [False, False, True, False]
