"""Resizes a ViT's position embedding to the patch grid of frames of another size."""

import math

import numpy as np

from aia_jax.errors import UserError, shorten

Grid = tuple[int, int]  # rows and columns of patches


def fit_positions(
    positions: np.ndarray, grid: Grid, name: str, same_network: bool = True
) -> np.ndarray:
    """A position embedding for a grid of patches, resized where it is for another one.

    Resizing is linear and moves the corners onto the corners, as in Google's code and in that of
    TokShift and MSCA (SciPy's `zoom`, order 1). The class token keeps its position.

    Args:
        positions: [1, 1 + patches, C], the class token's first.
        grid: of the network that takes them.
        name: of the array, for errors.
        same_network: as many patches are the same grid. Else a square number of them is a square
            grid, whatever the network's.

    Returns:
        [1, 1 + rows·columns, C]: `positions` itself where nothing is to be done, else float32. An
        array that is no position embedding is returned as it is.

    Raises:
        UserError: the number of patches is another one and no square, so that nothing says how many
            rows and columns they make.
    """
    target = grid_to_resize(positions, grid, name, same_network)
    if target is None:
        return positions
    patches = np.asarray(positions[0, 1:], np.float64).reshape(*target, -1)
    rows, columns = (_interpolation(*sizes) for sizes in zip(target, grid, strict=True))
    patches = np.einsum("yr,xc,rcd->yxd", rows, columns, patches, optimize=True)
    tokens = [np.asarray(positions[0, :1]), patches.reshape(-1, positions.shape[2])]
    return np.concatenate(tokens).astype(np.float32)[None]


def grid_to_resize(
    positions: np.ndarray, grid: Grid, name: str, same_network: bool = True
) -> Grid | None:
    """The grid of a position embedding that `fit_positions` resizes; None where it does not.

    Arguments and errors are those of `fit_positions`.
    """
    shape = np.shape(positions)
    if len(shape) != 3 or shape[0] != 1 or shape[1] < 2:
        return None
    count = shape[1] - 1
    side = math.isqrt(count)
    is_square = side**2 == count
    if count == math.prod(grid) and (same_network or not is_square or (side, side) == grid):
        return None
    if is_square:
        return side, side
    hint = ""
    if math.isqrt(shape[1]) ** 2 == shape[1]:
        hint = " (perhaps the network has no position of a class token)"
    raise UserError(
        f"{shorten(name)} {list(shape)} is a positional grid that cannot be resized: {count} "
        f"patches beside the class token are no square{hint}, and this net has "
        f"{grid[0]}x{grid[1]} of them; give weights of square pictures, or set model.image_size to "
        "the size of theirs"
    )


def _interpolation(size: int, new_size: int) -> np.ndarray:
    """The matrix [new_size, size] that interpolates linearly between the ends of an axis."""
    places = np.linspace(0, size - 1, new_size)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))
