"""Leaf digests: any flipped bit shows, and they do not depend on how an array is sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.checkpoints import digest

DTYPES = ["float32", "bfloat16", "int32", "uint8", "bool", "float64", "int64"]


def array_of(dtype, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(jnp.dtype(dtype))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DTYPES), st.lists(st.integers(1, 5), max_size=3), st.integers(0, 2**20))
def test_any_flipped_bit_changes_the_digest(dtype, shape, bit):
    array = array_of(dtype, shape)
    other = array.copy()
    words = other.reshape(-1).view(np.uint8)
    bit %= words.size * 8
    words[bit // 8] ^= np.uint8(1 << bit % 8)
    assert digest.leaf_digests({"a": array}) != digest.leaf_digests({"a": other})


def test_elements_that_change_places_change_the_digest():
    array = np.zeros(8, np.uint32)
    array[3] = 2**30  # the first sum alone, with factors 3 and 7, cannot tell: 4 · 2^30 is 0
    swapped = array[[0, 3, 2, 1, 4, 5, 6, 7]]
    ours, theirs = (digest.leaf_digests({"a": a})["a"] for a in (array, swapped))
    assert ours[:8] == theirs[:8]
    assert ours != theirs


@pytest.mark.parametrize("dtype", DTYPES)
def test_jax_and_numpy_arrays_have_the_same_digest(dtype):
    with jax.enable_x64(True):
        for shape in ((), (7,), (3, 4), (2, 3, 4)):
            array = array_of(dtype, shape, seed=1)
            assert digest.leaf_digests({"a": jnp.asarray(array)}) == digest.leaf_digests(
                {"a": array}
            )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["float32", "bfloat16", "float64"]),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.data(),
)
def test_shards_add_up_to_the_whole(dtype, shape, data):
    array = array_of(dtype, shape)
    row, column = (data.draw(st.integers(0, size)) for size in shape)
    pieces = [
        (slice(*rows), slice(*columns))
        for rows in ((0, row), (row, None))
        for columns in ((0, column), (column, None))
    ]
    total = sum(digest._shard_sums(array[piece], piece, shape) for piece in pieces)
    assert f"{total[0]:08x}{total[1]:08x}" == digest.leaf_digests({"a": array})["a"]


def test_sums_can_be_checked_with_sha256sum(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"abc")
    digest.seal(tmp_path)
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  d/file\n"
    assert (tmp_path / digest.SUMS).read_text() == expected
    assert digest.read_checked(tmp_path, "d/file") == b"abc"
    (tmp_path / "d" / "file").write_bytes(b"abd")
    with pytest.raises(digest.Damaged, match="d/file does not hold what was written"):
        digest.read_checked(tmp_path, "d/file")
