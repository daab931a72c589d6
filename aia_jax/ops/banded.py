"""The stencil as convolutions between groups of rows, for a library of convolutions.

Eight neighbouring rows along i are the outputs' channels, the rows that they see, of all planes, the inputs'; the taps along i are a band
in the kernel, the rest of which is zero. That is three times the multiplications, but a handful of operations where the taps are hundreds.
An infinity or NaN spreads to the rows that share its inputs, where zero times it is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.ops.apart import apart
from aia_jax.shapes import Array, Float

Plane = Float[Array, "b i j k"]
Kernel = Float[Array, "3 3 3 2"]

# Convolution libraries work on multiples of four and eight: 28 rows in four groups of seven take twice as long as when they are filled up
# to four groups of eight, and so does a single group of seven.
GROUP = 8
_MULTIPLE = 4  # that a single group is filled up to


def banded_stencil(maximum: Plane, mean: Plane, kernel: Kernel) -> Plane:
    """What `stencil` computes of finite values."""
    return _correlated(_windows((maximum, mean)), kernel[..., None], maximum.shape)[0]


def banded_gradient(gradient: Plane, maximum: Plane, mean: Plane, kernel: Kernel) -> tuple[Plane, Plane, Kernel]:
    """The gradient of maximum, mean and kernel from that of their correlation."""
    windows = _windows((gradient,))
    if gradient.shape[1] > GROUP:  # two convolutions read them; of a single group each computes the order that it wants
        windows = apart(lambda rows: rows, windows)
    of_maximum, of_mean = _correlated(windows, kernel[::-1, ::-1, ::-1, None], gradient.shape)
    # Inner products of the gradient's rows with the planes' rows that see them. The gradient's, which are fewer, are the images, so that
    # the library unfolds less, and the planes' the kernels. The taps come out in reverse.
    products = _convolved(windows.transpose(3, 1, 2, 0), _rows((maximum, mean)))
    products = products.reshape(*products.shape[:3], 2, -1)  # [rows seen, 3, 3, planes, rows]
    band = _band(gradient.shape[1])[:, :, None, None, None]
    return of_maximum, of_mean, (products * band).sum((1, 5))[::-1, ::-1, ::-1]


def _correlated(windows: Array, kernels: Array, shape: tuple[int, ...]) -> Array:
    """For each q the sum over planes p of plane p correlated with kernels[..., p, q], [q, b, i, j, k]."""
    batch, i, j, k = shape
    band = (kernels[:, :, :, :, None, :, None] * _band(i)[:, None, None, None, :, None]).sum(0)  # [3, 3, p, rows seen, q, rows]
    sums = _convolved(windows, band.reshape(3, 3, windows.shape[-1], -1))
    sums = sums.reshape(batch, -1, j, k, kernels.shape[-1], band.shape[-1])  # [b, groups, j, k, q, rows]
    return sums.transpose(4, 0, 1, 5, 2, 3).reshape(-1, batch, band.shape[-1] * sums.shape[1], j, k)[:, :, :i]


def _convolved(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


def _band(i: int) -> np.ndarray:
    """[3, rows seen, rows]: one where tap a of a row meets a row that it sees."""
    shape, first = ((_filled_up(i),) * 2, 1) if i <= GROUP else ((GROUP + 2, GROUP), 0)
    return np.stack([np.eye(*shape, k=first - a, dtype="f4") for a in range(3)])


def _filled_up(rows: int) -> int:
    return -(-rows // _MULTIPLE) * _MULTIPLE


def _windows(planes: tuple[Array, ...]) -> Array:
    """The rows that groups of rows see, [b · groups, j, k, planes · rows seen]: a single group itself, several each with one row around."""
    _, i, j, k = planes[0].shape
    if i <= GROUP:
        more = ((0, 0), (0, _filled_up(i) - i), (0, 0), (0, 0))
        return jnp.concatenate([jnp.pad(plane, more).transpose(0, 2, 3, 1) for plane in planes], -1)
    rows = _grouped(planes, 1, 1)
    rows = jnp.concatenate([rows[:, :, :-1], rows[:, :, 1:, :2]], 3)  # [b, planes, groups, rows seen, j, k]
    return rows.transpose(0, 2, 4, 5, 1, 3).reshape(-1, j, k, len(planes) * rows.shape[3])


def _rows(planes: tuple[Array, ...]) -> Array:
    """The rows of groups of rows, [j, k, b · groups, planes · rows]."""
    _, i, j, k = planes[0].shape
    if i <= GROUP:
        return _windows(planes).transpose(1, 2, 0, 3)
    return _grouped(planes, 0, 0).transpose(4, 5, 0, 2, 1, 3).reshape(j, k, -1, len(planes) * GROUP)


def _grouped(planes: tuple[Array, ...], before: int, groups_after: int) -> Array:
    """Groups of rows, the last filled up with zeros, rows of zeros before the first, [b, planes, groups, rows, j, k]."""
    batch, i, j, k = planes[0].shape
    groups = -(-i // GROUP) + groups_after
    rows = jnp.pad(jnp.stack(planes, 1), ((0, 0), (0, 0), (before, groups * GROUP - i - before), (0, 0), (0, 0)))
    return rows.reshape(batch, len(planes), groups, GROUP, j, k)
