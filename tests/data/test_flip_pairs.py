"""Which labels a flip swaps, by the class names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.data.flips import flip_pairs, mirror_label


def ssv2_names() -> list[str]:
    """174 names; those that name a side, or seem to, are Something-Something V2's own."""
    names = [f"Doing thing {k}" for k in range(174)]
    names[86:88] = [
        "Pulling [something] from left to right",
        "Pulling [something] from right to left",
    ]
    names[93:95] = [
        "Pushing [something] from left to right",
        "Pushing [something] from right to left",
    ]
    names[166:168] = ["Turning the camera left", "Turning the camera right"]
    names[119] = "Putting [something] upright on the table"
    names[98] = (
        "Putting [something that cannot actually stand upright] upright on the table, so it falls "
        "on its side"
    )
    names[168] = "Turning the camera upwards"
    return names


def test_the_pairs_of_something_something():
    rule = flip_pairs(ssv2_names())
    assert rule.pairs == [(86, 87), (93, 94), (166, 167)]
    unpaired = [k for k in range(174) if k not in (86, 87, 93, 94, 166, 167)]
    assert rule.partner[unpaired].tolist() == unpaired
    assert rule.partner.dtype == np.int64


@pytest.mark.parametrize(
    ("names", "partner"),
    [
        (["left", "right"], [1, 0]),
        (["Moving LEFT", "moving right"], [1, 0]),
        (["move_left", "move_right", "upright", "leftover"], [1, 0, 2, 3]),
        (["left-to-right", "right-to-left"], [1, 0]),
        (["turning left", "standing"], [-1, 1]),
        (["from left to right", "from right to right"], [-1, -1]),
        (["left hand and right foot", "right hand and left foot", "both hands"], [1, 0, 2]),
        (["go left", "Go Left", "go right"], [-1, -1, -1]),  # two classes could be the partner
        (["copyright", "bright", "cleft"], [0, 1, 2]),
        ([], []),
    ],
)
def test_partners(names, partner):
    assert flip_pairs(names).partner.tolist() == partner


words = st.lists(
    st.sampled_from(["left", "right", "Right", "up", "upright", "a"]), min_size=1, max_size=4
).map(" ".join)


@settings(deadline=None)
@given(st.lists(words, max_size=12, unique=True))
def test_a_flip_undoes_itself(names):
    partner = flip_pairs(names).partner
    for k, name in enumerate(names):
        sided = {"left", "right"} & set(name.lower().split())
        assert (partner[k] == k) is not bool(sided) or (bool(sided) and partner[k] == -1)
        if partner[k] >= 0:
            assert partner[partner[k]] == k


@settings(deadline=None)
@given(names=st.lists(words, min_size=1, max_size=8), chosen=st.lists(st.booleans(), min_size=8))
def test_two_flips_are_none_for_a_label_and_for_a_set_of_them(names, chosen):
    partner = flip_pairs(names).partner
    several = np.array(chosen[: len(names)], np.uint8)
    mirrored = mirror_label(several, partner)
    if mirrored is None:
        assert (partner[several > 0] < 0).any()
    else:
        assert mirrored.dtype == np.uint8
        np.testing.assert_array_equal(mirror_label(mirrored, partner), several)
    for label in range(len(names)):
        other = mirror_label(label, partner)
        alone = mirror_label(np.eye(len(names), dtype=np.uint8)[label], partner)
        assert (other is None) == (alone is None) == (partner[label] < 0)
        if other is not None:
            assert alone is not None and np.flatnonzero(alone).tolist() == [other]
            assert mirror_label(other, partner) == label
