"""A position embedding resized to other grids, against SciPy and MSCA's authors."""

import numpy as np
import pytest
from scipy.ndimage import zoom

from aia_jax.errors import UserError
from aia_jax.models.vit.positions import fit_positions
from tests.helpers.paths import GOLDEN


def drawn(count):
    return np.random.default_rng(count).normal(size=(1, 1 + count, 5)).astype("f4")


def test_the_grid_of_the_reference():
    golden = np.load(GOLDEN / "vit_positions_4to6.npz")
    np.testing.assert_allclose(fit_positions(golden["in"], (6, 6), "x"), golden["out"], atol=1e-6)


@pytest.mark.parametrize(
    ("side", "grid"), [(14, (24, 24)), (24, (14, 14)), (4, (3, 7)), (3, (1, 5)), (1, (2, 2))]
)
def test_resizing_is_scipys_and_the_class_token_stays(side, grid):
    positions = drawn(side**2)
    fitted = fit_positions(positions, grid, "x")
    patches = positions[0, 1:].reshape(side, side, 5)
    expected = zoom(patches, (grid[0] / side, grid[1] / side, 1), order=1)
    np.testing.assert_allclose(fitted[0, 1:].reshape(*grid, 5), expected, atol=1e-6)
    np.testing.assert_array_equal(fitted[0, 0], positions[0, 0])
    assert fitted.dtype == np.float32


def test_as_many_patches_are_the_same_grid_only_in_the_same_network():
    positions = drawn(16)
    assert fit_positions(positions, (2, 8), "x") is positions
    assert fit_positions(positions, (4, 4), "x", same_network=False) is positions
    assert not np.allclose(fit_positions(positions, (2, 8), "x", same_network=False), positions)


def test_a_grid_that_nothing_says_is_refused_with_its_numbers():
    message = r"pos \[1, 13, 5\] is a positional grid that cannot be resized: 12 patches .* 4x4"
    with pytest.raises(UserError, match=message):
        fit_positions(drawn(12), (4, 4), "pos")
    assert fit_positions(drawn(12), (3, 4), "pos").shape == (1, 13, 5)
    with pytest.raises(UserError, match="no position of a class token"):
        fit_positions(drawn(15), (3, 3), "pos")
