"""What a run says of its data before it begins: the manifest beside the metadata and the config."""

import json
from pathlib import Path

import pytest

from aia_jax.errors import DataError
from aia_jax.frame_geometry import Resize
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.manifest import compare_manifest
from tests.helpers.tiny_data import make_dataset

SPLITS = ("train", "validation")


def with_manifest(folder: Path, **changes) -> Path:
    make_dataset(folder)
    facts = {"found": 9, "expected": 9, "height_x_width": {"24x32": 9}}
    splits = {split: facts | changes.pop(split, {}) for split in SPLITS}
    manifest = {
        "class_names": {"label": ["moving left", "moving right", "standing"]},
        "splits": splits,
    } | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def compare(folder: Path, resize: Resize = (24, 32)) -> list[str]:
    return compare_manifest(open_dataset(folder), SPLITS, resize)


def test_all_agree(tmp_path):
    assert compare(with_manifest(tmp_path / "a")) == []
    assert compare(make_dataset(tmp_path / "b")) == [], "TFDS writes no manifest"


def test_what_was_lost_is_noted(tmp_path):
    (note,) = compare(with_manifest(tmp_path, train={"expected": 1009}))
    assert (
        note == "train: 1,000 of 1,009 videos were missing or unreadable when prepared, see "
        f"{tmp_path / 'bad.txt'}"
    )


def test_another_geometry_is_noted(tmp_path):
    folder = with_manifest(
        tmp_path, validation={"height_x_width": {"24x32": 2, "24x40": 6, "40x24": 1}}
    )
    (note,) = compare(folder)
    assert note.startswith(
        "validation: 7 of 9 videos are stored at 24x40 and 1 other sizes, the recipe resizes to "
        "24x32 (data.resize)"
    )
    assert compare(folder, resize=None) == []
    assert len(compare(folder, resize=(240, 320))) == 2


def test_kept_proportions_are_compared_by_the_short_side(tmp_path):
    sizes = {"24x32": 2, "24x40": 3, "40x24": 3, "other": 1}
    stored = {"options": {"--size": "short24"}, "validation": {"height_x_width": sizes}}
    folder = with_manifest(tmp_path / "kept", **stored)
    assert compare(folder, "short24") == []
    first, second = compare(folder, "short20")
    assert "9 of 9 videos are stored at 24x32, the recipe resizes to short20" in first
    assert "8 of 9 videos are stored at 24x40 and 2 other sizes" in second
    stretched = with_manifest(tmp_path / "stretched", options={"--size": "24x32"})
    (note,) = compare(stretched, "short24")
    assert "stretched to 24x32" in note and "--size short24" in note and "resize=24,32" in note


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"class_names": {"label": ["moving left", "standing", "moving right"]}},
            "class 1 is 'standing' and 'moving right'",
        ),
        ({"class_names": {"label": ["moving left"]}}, "1 and 3 classes"),
        ({"class_names": {"verb": ["moving left"]}}, "0 and 3 classes"),
        ({"train": {"found": 8}}, "counts 8 videos in the split train, dataset_info.json 9"),
        ({"splits": {"train": None}}, "counts 0 videos in the split train"),
        ({"splits": 3}, "cannot be read"),
    ],
)
def test_files_of_two_preparations(tmp_path, changes, said):
    with pytest.raises(DataError) as caught:
        compare(with_manifest(tmp_path, **changes))
    assert said in str(caught.value)
    assert str(tmp_path / "manifest.json") in str(caught.value)
    assert "prepare the data again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_manifest(tmp_path):
    path = with_manifest(tmp_path) / "manifest.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        compare(tmp_path)
