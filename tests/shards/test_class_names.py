"""Class names that no file can hold, names that look alike, and classes that a split lacks."""

import numpy as np
import pytest

from aia_jax.errors import DataError
from aia_jax.shards.class_names import find_lookalikes, find_name_problem, notes_on_labels
from aia_jax.shards.tfds_metadata import write_metadata


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        (" a", "space at an end"),
        ("a\rb", "control character '\\r'"),
        ("a\x85b", "control character"),
        ("a\u2028b", "control character"),
        ("a\x1b[31m", "control character"),
        ("a\udcff", "not UTF-8"),
        ("a" * 5000, "5,000 characters"),
    ],
)
def test_names_that_cannot_name_a_class(tmp_path, name, said):
    assert said in find_name_problem(name)
    with pytest.raises(DataError, match="class 1 is named"):
        write_metadata(tmp_path, name="a", class_names={"label": ["b", name]}, shard_lengths={})


@pytest.mark.parametrize("name", ["hold, then drop", "größe", "東京", "👩‍🚒", "a;b", "O'Neill"])
def test_names_that_can(name):
    assert find_name_problem(name) == ""


@pytest.mark.parametrize(
    "pair",
    [
        ("Walking", "walking"),
        ("größe", "gro\u0308ße"),
        ("STRASSE", "straße"),
        ("a b", "a  b"),
        ("a b", "a\u00a0b"),
        ("1", "１"),
        ("ab", "a\u200bb"),
    ],
)
def test_names_that_people_read_as_one(pair):
    assert find_lookalikes(["z", pair[0], "y", pair[1]]) == pair
    assert find_lookalikes([*pair[:1], "z"]) is None


def test_classes_that_a_split_lacks_are_named():
    names = ["walk", "run", "sit, stand", "fly"]
    labels = {"train": np.array([0, 0, 2, -1]), "validation": [0, 1]}
    assert notes_on_labels(names, labels) == [
        "classes of the split validation without training videos, which can only be taken for "
        "others: 1 (run)",
        "classes without videos in the split validation, which measures nothing of them: 1 "
        '("sit, stand")',
    ]
    assert notes_on_labels(names, {"train": [0, 1], "validation": [1, 0]}) == []
    assert notes_on_labels(names, {"train": [0, 1]}) == []
    swapped = notes_on_labels(names, {"a": [0], "b": [1]}, train="b")
    assert "split a without training videos" in swapped[0] and "(walk)" in swapped[0]
