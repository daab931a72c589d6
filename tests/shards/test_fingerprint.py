"""What a checkpoint keeps of its data: the same wherever they lie, another for other data."""

import json
import shutil

import pytest

from aia_jax.errors import DataError
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.example import encode_example
from aia_jax.shards.fingerprint import compare_data, describe_data, find_difference, fingerprint
from aia_jax.shards.index import Index
from aia_jax.shards.manifest import MANIFEST
from aia_jax.shards.reader import open_split
from aia_jax.shards.tfrecord import RecordWriter
from tests.helpers.tiny_data import make_dataset


def describe(folder):
    indices = {split: open_split(folder, split).index for split in ("train", "validation")}
    return describe_data(open_dataset(folder), indices)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "data", 2, frames=3, size=(16, 16))


def test_a_copy_elsewhere_has_the_same_fingerprint(dataset, tmp_path):
    here, there = describe(dataset), describe(shutil.copytree(dataset, tmp_path / "copy"))
    assert here["splits"] == there["splits"] and here["dir"] != there["dir"]
    assert here["splits"]["train"]["videos"] == 6
    assert here["splits"]["train"] != here["splits"]["validation"]
    assert json.loads(json.dumps(here)) == here
    assert compare_data(here, there) == []


def records(*videos):
    """Records of (id, label, JPEG bytes)."""
    return [
        encode_example([jpeg], {"label": label}, name, 12.0, 4, 4) for name, label, jpeg in videos
    ]


@pytest.mark.parametrize(
    ("videos", "said"),
    [
        ((("a", 0, b"x"), ("b", 1, b"y"), ("c", 1, b"z")), "it had 2 videos, now it has 3"),
        ((("a", 0, b"x"), ("c", 1, b"y")), "others than they were"),
        ((("b", 1, b"y"), ("a", 0, b"x")), "in another order"),
        ((("a", 0, b"x"), ("b", 0, b"y")), "other labels"),
        ((("a", (0,), b"x"), ("b", (1, 0), b"y")), "other labels"),
        ((("a", 0, b"x"), ("b", 1, b"other")), "other pictures"),
        ((("a", 0, b"x"), ("b", 1, b"y")), ""),
    ],
)
def test_each_kind_of_difference_is_named(tmp_path, videos, said):
    found = []
    for name, content in (("before", (("a", 0, b"x"), ("b", 1, b"y"))), ("now", videos)):
        with RecordWriter(tmp_path / name) as writer:
            for record in records(*content):
                writer.write(record)
        found.append(fingerprint(Index.build([tmp_path / name]), "label"))
    difference = find_difference(*found)
    assert said in difference and bool(said) == bool(difference)


def test_damage_is_named_before_the_labels_that_it_hides(tmp_path):
    with RecordWriter(tmp_path / "shard") as writer:
        for record in records(("a", 0, b"x" * 50), ("b", 1, b"y" * 50)):
            writer.write(record)
    before = fingerprint(Index.build([tmp_path / "shard"]), "label")
    content = bytearray((tmp_path / "shard").read_bytes())
    content[content.index(b"y" * 20)] ^= 1
    (tmp_path / "shard").write_bytes(content)
    now = fingerprint(Index.build([tmp_path / "shard"]), "label")
    assert now["damaged"] == 1 and before["damaged"] == 0
    assert "1 of its records are damaged" in find_difference(before, now)


def test_other_data_are_refused_or_noted_if_meant(dataset, tmp_path):
    before = describe(dataset)
    make_dataset(tmp_path / "data", 2, frames=3, size=(16, 16), seed=1)
    now = describe(tmp_path / "data")
    with pytest.raises(DataError) as raised:
        compare_data(before, now)
    for words in (
        str(tmp_path),
        "split train",
        "pictures",
        str(dataset),
        "changed_on_purpose=true",
    ):
        assert words in str(raised.value)
    notes = compare_data(before, now, on_purpose=True)
    assert len(notes) == 2 and "split validation" in notes[1]
    (note,) = compare_data({}, now)  # a checkpoint of an older version
    assert "older version" in note


def test_how_frames_are_stored_is_kept(dataset, tmp_path):
    folder = shutil.copytree(dataset, tmp_path / "copy")
    assert describe(folder)["options"] == {}
    options = {"--size": "240x320", "--quality": 90, "--raw": "/somewhere"}
    (folder / MANIFEST).write_text(json.dumps({"options": options}))
    assert describe(folder)["options"] == {"--size": "240x320", "--quality": 90}
    (folder / MANIFEST).write_text("[")
    assert describe(folder)["options"] == {}
