"""The stencil and its kernel's gradient as convolutions between rows, for a library of
convolutions.

A convolution pairs each of some neighbouring rows along i with each of the rows that they may see,
as channels or as images. The taps along i are a band in these pairs; the rest is multiplied by
zero. That is three times the multiplications for eight rows, but a handful of operations where the
taps are hundreds. An infinity or NaN spreads to the rows that it is paired with, as zero times it
is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]

ROWS = 8  # the most that `banded` takes: frames, or the last stage's rows
# that a plane's rows are filled up to: convolution libraries work on multiples of four and eight
_MULTIPLE = 4
_GROUP = 4  # rows that go together in the kernel's gradient of planes of more than `ROWS`


def banded(planes: tuple[Plane, ...], kernels: Float[Array, "3 3 3 p q"]) -> tuple[Plane, ...]:
    """For each q the sum over planes p of plane p correlated with kernels[..., p, q], zeros beyond
    the edges.

    Args:
        planes: of at most `ROWS` rows along i, and finite.
    """
    batch, i, j, k = planes[0].shape
    rows = _filled_up(i)
    more = ((0, 0), (0, rows - i), (0, 0), (0, 0))
    images = jnp.concatenate(
        [jnp.pad(plane, more).transpose(0, 2, 3, 1) for plane in planes], -1
    )  # [b, j, k, p · rows seen]
    band = (
        kernels[:, :, :, :, None, :, None] * _band(rows, rows, 1)[:, None, None, None, :, None]
    ).sum(0)  # [3, 3, p, rows seen, q, rows]
    sums = _convolved(images, band.reshape(3, 3, images.shape[-1], -1), ("NHWC", "HWIO", "NHWC"))
    sums = sums.reshape(batch, j, k, kernels.shape[-1], rows).transpose(3, 0, 4, 1, 2)
    return tuple(sums[:, :, :i])


def banded_kernel_gradient(gradient: Plane, maximum: Plane, mean: Plane) -> Float[Array, "3 3 3 2"]:
    """The inner products of a gradient with every shift of the planes: their kernel's gradient, if
    it is that of their correlation.

    Each of the planes' rows with each of the gradient's that it meets, shifted by at most one place
    along k. The places along k, of all
    clips and groups of rows, are the channels of a convolution along j: a library reads them as
    vectors. All are finite.
    """
    i, j, k = gradient.shape[1:]
    alone = i <= ROWS
    group = _filled_up(i) if alone else _GROUP
    groups = -(-i // group)
    if alone:  # a single group, which meets itself
        met = jnp.pad(gradient, ((0, 0), (0, group - i), (0, 0), (1, 1)))[:, None]
    else:  # a row of zeros, those of each group, and two of the next
        rows = jnp.pad(
            gradient, ((0, 0), (1, group * (groups + 1) - i - 1), (0, 0), (1, 1))
        ).reshape(-1, groups + 1, group, j, k + 2)
        met = jnp.concatenate([rows[:, :-1], rows[:, 1:, :2]], 2)
    met = jnp.stack(
        [met[..., shift : shift + k] for shift in range(3)]
    )  # [3, b, groups, rows met, j, k]
    rows_met = met.shape[3]
    met = met.transpose(3, 0, 4, 1, 2, 5).reshape(rows_met * 3, j, -1)

    def in_groups(plane: Array) -> Array:
        rows = jnp.pad(plane, ((0, 0), (0, group * groups - i), (0, 0), (0, 0))).reshape(
            -1, groups, group, j, k
        )
        return rows.transpose(2, 3, 0, 1, 4).reshape(group, j, -1)

    products = _convolved(
        jnp.concatenate([in_groups(maximum), in_groups(mean)]), met, ("NHC", "OHI", "NHC")
    )
    products = products.reshape(2, group, 3, rows_met, 3).transpose(
        3, 2, 4, 0, 1
    )  # [rows met, along j, along k, planes, rows]
    # The gradient was shifted along k, and is what rows see: the taps along i and k are in reverse.
    return (products * _band(rows_met, group, int(alone))[:, :, None, None, None]).sum((1, 5))[
        ::-1, :, ::-1
    ]


def _convolved(x: Array, kernel: Array, dimensions: tuple[str, str, str]) -> Array:
    one_around = [(1, 1)] * (x.ndim - 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,) * (x.ndim - 2),
        one_around,
        dimension_numbers=dimensions,
        precision="highest",
    )


def _filled_up(rows: int) -> int:
    return -(-rows // _MULTIPLE) * _MULTIPLE


def _band(rows_seen: int, rows: int, first: int) -> np.ndarray:
    """[3, rows seen, rows]: one where tap a of a row, of which the first sees `first` rows before
    itself, meets a row that it sees.
    """
    return np.stack([np.eye(rows_seen, rows, k=first - a, dtype="f4") for a in range(3)])
