"""The reader of class folders: its videos, classes, splits, and what it says if it finds none."""

import argparse
import os
import random
from pathlib import Path

import pytest

from aia_jax.errors import UserError
from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.readers import folders
from tests.helpers.raw_videos import numbered_frames, write_frames


def read(raw: Path, val_share: float = 0.1, group: str | None = None) -> RawDataset:
    return folders.read(raw, argparse.Namespace(val_share=val_share, group=group))


def touch(raw: Path, *names: str) -> Path:
    for name in names:
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
    return raw


def error(raw: Path, **options: float | str) -> str:
    with pytest.raises(UserError) as caught:
        read(raw, **options)
    return str(caught.value)


def test_a_folder_a_class(tmp_path):
    raw = touch(
        tmp_path / "My Videos 2",
        "b/1.mp4",
        "b/2.WEBM",
        "a/x y.avi",
        "größe/東京.mkv",
        "b/.hidden.mp4",
        "b/readme.txt",
    )
    write_frames(raw / "a" / "as frames", numbered_frames(2, 8, 8))
    found = read(raw, val_share=0.0)
    assert found.name == "my_videos_2"
    assert found.class_names == {"label": ("a", "b", "größe")}
    assert [
        (video.video_id, video.labels["label"], video.split, video.size) for video in found.videos
    ] == [
        ("a/as frames", 0, "train", 0),
        ("a/x y.avi", 0, "train", 5),
        ("b/1.mp4", 1, "train", 5),
        ("b/2.WEBM", 1, "train", 5),
        ("größe/東京.mkv", 2, "train", 5),
    ]
    assert found.videos[1].source == raw / "a" / "x y.avi"
    assert found.remarks == ("files in class folders that are no videos, left out: 1 .txt",)


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_split_folders(tmp_path, validation):
    raw = touch(
        tmp_path,
        "train/b/1.mp4",
        "train/c/2.mp4",
        f"{validation}/a/1.mp4",
        f"{validation}/b/1.mp4",
        "test/b/3.mp4",
    )
    found = read(raw)
    assert found.class_names == {"label": ("a", "b", "c")}, (
        "class ids count the classes of all splits"
    )
    assert {(video.split, video.video_id, video.labels["label"]) for video in found.videos} == {
        ("train", "b/1.mp4", 1),
        ("train", "c/2.mp4", 2),
        ("validation", "a/1.mp4", 0),
        ("validation", "b/1.mp4", 1),
        ("test", "b/3.mp4", 1),
    }


def test_a_class_may_be_called_train(tmp_path):
    found = read(touch(tmp_path, "car/1.mp4", "train/1.mp4", "train/2.mp4", "test/1.mp4"))
    assert found.class_names == {"label": ("car", "test", "train")}


def test_the_validation_share_depends_on_ids_alone(tmp_path):
    names = [f"{name}/{number}.mp4" for name in ("a", "b") for number in range(50)] + [
        "single/1.mp4",
        "pair/1.mp4",
        "pair/2.mp4",
    ]
    first = read(touch(tmp_path / "first", *names), 0.2)
    random.Random(0).shuffle(names)
    second = read(touch(tmp_path / "second", *names), 0.2)
    splits = {video.video_id: video.split for video in first.videos}
    assert splits == {video.video_id: video.split for video in second.videos}
    validation = [name.split("/")[0] for name, split in splits.items() if split == "validation"]
    assert {name: validation.count(name) for name in ("a", "b", "single", "pair")} == {
        "a": 10,
        "b": 10,
        "single": 0,
        "pair": 1,
    }
    chosen = [
        {
            name[2:]
            for name, split in splits.items()
            if split == "validation" and name.startswith(prefix)
        }
        for prefix in ("a/", "b/")
    ]
    assert chosen[0] != chosen[1], "not the same places in every class"


def test_groups_go_to_one_split_as_a_whole(tmp_path):
    """Six people do three classes; clips of one person in both splits would be a leak."""
    names = [
        f"{name}/p{person}_{clip}.mp4"
        for name in ("a", "b", "c")
        for person in range(6)
        for clip in range(4)
    ]
    raw = touch(tmp_path, *names, "rare/p9_1.mp4")
    found = read(raw, 0.2, r"p(\d+)_")
    splits: dict[str, set[str]] = {}
    for video in found.videos:
        splits.setdefault(video.video_id.split("/")[1].split("_")[0], set()).add(video.split)
    assert all(len(one) == 1 for one in splits.values()), splits
    validation = [group for group, one in splits.items() if one == {"validation"}]
    assert len(validation) == 1 and validation != ["p9"], "the only video of a class trains"
    assert "validation: 1 of 7 groups, 12 of 73 videos" in found.remarks
    assert "train: 6 of 7 groups, 61 of 73 videos" in found.remarks
    assert found.videos == read(raw, 0.2, r"p(\d+)_").videos, "every run chooses the same"
    alone = read(raw, 0.2, r".*")
    assert [video.split for video in alone.videos] != [video.split for video in found.videos]


def test_groups_that_cannot_be(tmp_path):
    raw = touch(tmp_path, "a/p1.mp4", "a/p2.mp4", "b/p1.mp4", "b/q.mp4")
    assert "--group '/p[0-9]' finds nothing in 'b/q.mp4'" in error(raw, group="/p[0-9]")
    assert "--group '(' is no regular expression" in error(raw, group="(")
    assert "no group of 1 can become the split validation" in error(raw, group="mp4")
    split = touch(tmp_path / "split", "train/a/p1x.mp4", "val/a/p1y.mp4", "val/a/p2.mp4")
    found = read(split, group=r"p\d")
    assert "groups with videos in several splits: 1 (p1)" in found.remarks


@pytest.mark.parametrize(
    "pair", [("train/Walking", "val/walking"), ("train/größe", "val/gro\u0308ße"), ("a b", "A B")]
)
def test_classes_that_look_like_one_are_refused(tmp_path, pair):
    raw = touch(tmp_path, f"{pair[0]}/1.mp4", f"{pair[1]}/2.mp4")
    said = error(raw)
    assert "differ in case, spaces or accents only" in said
    assert all(name.rpartition("/")[2] in said for name in pair)


def test_a_class_in_one_split_only_is_named(tmp_path):
    raw = touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4", "val/c, d/4.mp4")
    assert read(raw).remarks == (
        "classes of the split validation without training videos, which can only be taken for "
        'others: 1 ("c, d")',
        "classes without videos in the split validation, which measures nothing of them: 1 (b)",
    )


def test_folders_of_other_programs_are_no_classes(tmp_path):
    foreign = ("@eaDir", "$RECYCLE.BIN", "Thumbs", "__MACOSX", ".git", "System Volume Information")
    raw = touch(tmp_path, "a/1.mp4", "a/@eaDir/1.mp4", *(f"{name}/a/1.mp4" for name in foreign))
    found = read(raw)
    assert found.class_names == {"label": ("a",)}
    assert [video.video_id for video in found.videos] == ["a/1.mp4"]
    assert found.remarks == (
        "folders that other programs made, left out: $RECYCLE.BIN, @eaDir, "
        "System Volume Information, Thumbs and 1 more",
    )


def test_gifs_are_videos(tmp_path):
    assert [video.video_id for video in read(touch(tmp_path, "a/1.gif")).videos] == ["a/1.gif"]


def test_links_that_lead_nowhere_or_upwards(tmp_path):
    raw = touch(tmp_path, "a/1.mp4", "b/2.mp4")
    (raw / "a" / "loop.mp4").symlink_to("loop.mp4")
    (raw / "a" / "gone.mp4").symlink_to("gone")
    for link, target in ((raw / "up", "."), (raw / "a" / "up", ".."), (raw / "loop", "loop")):
        link.symlink_to(target)
    found = read(raw, 0.0)
    assert [(video.video_id, video.size) for video in found.videos] == [
        ("a/1.mp4", 5), ("a/gone.mp4", 0), ("a/loop.mp4", 0), ("b/2.mp4", 5)
    ]  # fmt: skip
    assert "left out: 1 link to a folder above" in found.remarks[0]


def test_a_class_folder_that_cannot_be_read(tmp_path, monkeypatch):
    raw = touch(tmp_path, "a/1.mp4", "b/2.mp4")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    assert f"the folder {raw / 'b'} cannot be read (Permission denied); allow" in error(raw)


@pytest.mark.parametrize("name", ["a\rb", "a\x1bb", "a\u2028b"])
def test_control_characters_in_class_names(tmp_path, name):
    said = error(touch(tmp_path, f"{name}/1.mp4"))
    assert "cannot name a class (it holds the control character" in said
    assert name not in said, "a terminal is not told to do things"


def test_errors_say_what_was_looked_for_and_what_is_there(tmp_path):
    flat = touch(tmp_path / "flat", "1.mp4", "2.mp4")
    assert "no class folders" in error(flat)
    assert "RAW/<class>/<video" in error(flat)
    assert f"{flat} has 1.mp4, 2.mp4" in error(flat)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is empty" in error(tmp_path / "empty")
    assert "no videos in them" in error(touch(tmp_path / "texts", "a/1.txt", "b/2.txt"))
    deep = touch(tmp_path / "deep", "ucf/walking/1.mp4", "ucf/running/1.mp4")
    assert f"did you mean --raw {deep / 'ucf'}?" in error(deep)
    assert "beside them annotations" in error(
        touch(tmp_path / "mixed", "train/a/1.mp4", "val/a/2.mp4", "annotations/x.json")
    )
    assert f"no class folders in {tmp_path / 'half' / 'val'}" in error(
        touch(tmp_path / "half", "train/a/1.mp4", "val/2.mp4")
    )
    assert "two folders for the split validation" in error(
        touch(tmp_path / "twice", "train/a/1.mp4", "val/a/2.mp4", "validation/a/2.mp4")
    )
    assert "--val-share" in error(flat, val_share=1.0)
    assert "cannot name a class" in error(touch(tmp_path / "names", " a/1.mp4"))


def test_names_that_are_not_utf8(tmp_path):
    raw = touch(tmp_path, "a/1.mp4")
    Path(os.fsdecode(os.fsencode(raw) + b"/a/\xff.mp4")).write_bytes(b"video")
    assert [video.video_id for video in read(raw, 0.0).videos] == ["a/1.mp4", "a/\\xff.mp4"]


def test_empty_classes_keep_their_ids_and_are_named(tmp_path):
    raw = touch(tmp_path, "a/1.mp4", "c/2.mp4")
    (raw / "b").mkdir()
    found = read(raw)
    assert found.class_names["label"] == ("a", "b", "c")
    assert found.remarks == ("class folders without videos, still counted as classes: b",)
