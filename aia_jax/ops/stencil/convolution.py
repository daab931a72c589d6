"""The stencil and its kernel's gradient as convolutions with many channels, for training on CPUs.

A convolution along j and k reads the rows of a plane (its positions along i) as channels: eight
rows in, eight rows out. Its weights form a band, because row r only meets rows r - 1, r and r + 1;
the rest of the weights is zero. For eight rows that is three times as many multiplications as
needed, but a handful of operations to compile where taps are hundreds.

An infinity or NaN in one row spreads to all rows of the plane, as zero times either is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]

MAX_ROWS = 8  # of a plane in `correlate_by_convolution`: frames, or the last stage's rows

# Rows are padded to a multiple of this: convolution libraries work on four or eight channels.
_ROW_MULTIPLE = 4
# In the kernel's gradient, rows of planes of more than `MAX_ROWS` go in groups of so many.
_ROW_GROUP = 4


def correlate_by_convolution(
    planes: tuple[Plane, ...], kernels: Float[Array, "3 3 3 p q"]
) -> tuple[Plane, ...]:
    """Correlates p planes with p · q kernels: result q sums plane p with kernels[..., p, q] over p.

    Beyond the edges planes are zero.

    Args:
        planes: of at most `MAX_ROWS` rows along i, and finite.
    """
    batch, i, j, k = planes[0].shape
    rows = _round_up(i)
    padding = ((0, 0), (0, rows - i), (0, 0), (0, 0))
    as_channels = [jnp.pad(plane, padding).transpose(0, 2, 3, 1) for plane in planes]
    images = jnp.concatenate(as_channels, -1)  # [b, j, k, p · input rows]
    weights = (
        kernels[:, :, :, :, None, :, None] * _band(rows, rows, 1)[:, None, None, None, :, None]
    )
    weights = weights.sum(0).reshape(3, 3, images.shape[-1], -1)  # [3, 3, p · rows, q · rows]
    sums = _convolve(images, weights, ("NHWC", "HWIO", "NHWC"))
    sums = sums.reshape(batch, j, k, kernels.shape[-1], rows).transpose(3, 0, 4, 1, 2)
    return tuple(sums[:, :, :i])


def kernel_gradient_by_convolution(
    dy: Plane, maximum: Plane, mean: Plane
) -> Float[Array, "3 3 3 2"]:
    """Computes the inner products of `dy` with every shift of the two planes.

    They are the gradient of the kernel, where `dy` is the gradient of the correlation. One
    convolution along j computes them. It pairs each row of a plane with each row of `dy` in its
    reach, shifted by -1, 0 or 1 along k. Its channels are the positions along k of all clips and
    groups of rows, which a library reads as vectors.

    Args:
        dy, maximum, mean: finite.
    """
    i, j, k = dy.shape[1:]
    single_group = i <= MAX_ROWS
    group = _round_up(i) if single_group else _ROW_GROUP
    groups = -(-i // group)
    if single_group:  # its rows meet the rows of the same group
        reached = jnp.pad(dy, ((0, 0), (0, group - i), (0, 0), (1, 1)))[:, None]
    else:  # a group's rows meet the row before the group, the group's, and the row after it
        padding = ((0, 0), (1, group * (groups + 1) - i - 1), (0, 0), (1, 1))
        rows = jnp.pad(dy, padding).reshape(-1, groups + 1, group, j, k + 2)
        reached = jnp.concatenate([rows[:, :-1], rows[:, 1:, :2]], 2)
    shifted = [reached[..., shift : shift + k] for shift in range(3)]
    reached = jnp.stack(shifted)  # [3, b, groups, reached rows, j, k]
    reached_rows = reached.shape[3]
    reached = reached.transpose(3, 0, 4, 1, 2, 5).reshape(reached_rows * 3, j, -1)

    def split_into_groups(plane: Array) -> Array:
        """[b, i, j, k] → [group, j, b · groups · k]."""
        padded = jnp.pad(plane, ((0, 0), (0, group * groups - i), (0, 0), (0, 0)))
        rows = padded.reshape(-1, groups, group, j, k)
        return rows.transpose(2, 3, 0, 1, 4).reshape(group, j, -1)

    pair = jnp.concatenate([split_into_groups(maximum), split_into_groups(mean)])
    products = _convolve(pair, reached, ("NHC", "OHI", "NHC"))
    products = products.reshape(2, group, 3, reached_rows, 3)
    products = products.transpose(3, 2, 4, 0, 1)  # [reached rows, along j, along k, pair, rows]
    in_band = products * _band(reached_rows, group, int(single_group))[:, :, None, None, None]
    # The shifts along i and k moved dy instead of the planes, so these two axes are reversed.
    return in_band.sum((1, 5))[::-1, :, ::-1]


def _convolve(x: Array, kernel: Array, dimensions: tuple[str, str, str]) -> Array:
    """Convolves with stride 1 and one zero around each spatial axis."""
    spatial = x.ndim - 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,) * spatial,
        [(1, 1)] * spatial,
        dimension_numbers=dimensions,
        precision="highest",
    )


def _round_up(rows: int) -> int:
    return -(-rows // _ROW_MULTIPLE) * _ROW_MULTIPLE


def _band(input_rows: int, rows: int, first: int) -> np.ndarray:
    """[3, input rows, rows]: one where tap a of row r falls on input row r + a - first."""
    return np.stack([np.eye(input_rows, rows, k=first - a, dtype="f4") for a in range(3)])
