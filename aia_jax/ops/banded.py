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

# Convolution libraries work on multiples of eight: 28 rows in four groups of seven take twice as long as when they are filled up to four
# groups of eight.
GROUP = 8


def banded_stencil(maximum: Plane, mean: Plane, kernel: Kernel) -> Plane:
    """What `stencil` computes of finite values."""
    return _correlated(_windows((maximum, mean)), kernel[..., None], maximum.shape)[0]


def banded_gradient(gradient: Plane, maximum: Plane, mean: Plane, kernel: Kernel) -> tuple[Plane, Plane, Kernel]:
    """The gradient of maximum, mean and kernel from that of their correlation."""
    if gradient.shape[1] <= GROUP:
        windows = rows = _windows((gradient,))
    else:
        windows = apart(_windows, (gradient,))  # two convolutions read them
        rows = windows[..., 1 : GROUP + 1]
    of_maximum, of_mean = _correlated(windows, kernel[::-1, ::-1, ::-1, None], gradient.shape)
    products = _convolved(_windows((maximum, mean)).transpose(3, 1, 2, 0), rows.transpose(1, 2, 0, 3))
    products = products.reshape(2, -1, *products.shape[1:])  # [planes, rows seen, 3, 3, rows]
    band = _band(gradient.shape[1])[:, None, :, None, None]
    return of_maximum, of_mean, (products * band).sum((2, 5)).transpose(0, 2, 3, 1)


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
    shape, first = ((i, i), 1) if i <= GROUP else ((GROUP + 2, GROUP), 0)
    return np.stack([np.eye(*shape, k=first - a, dtype="f4") for a in range(3)])


def _windows(planes: tuple[Array, ...]) -> Array:
    """The rows that groups of rows see, [b · groups, j, k, planes · rows seen]: a single group itself, several each with one row around."""
    batch, i, j, k = planes[0].shape
    if i <= GROUP:
        return jnp.concatenate([plane.transpose(0, 2, 3, 1) for plane in planes], -1)
    groups = -(-i // GROUP)
    rows = jnp.pad(jnp.stack(planes, 1), ((0, 0), (0, 0), (1, (groups + 1) * GROUP - i - 1), (0, 0), (0, 0)))
    rows = rows.reshape(batch, len(planes), groups + 1, GROUP, j, k).swapaxes(1, 2)
    rows = jnp.concatenate([rows[:, :-1], rows[:, 1:, :, :2]], 3)  # [b, groups, planes, rows, j, k]
    return rows.reshape(-1, len(planes) * rows.shape[3], j, k).transpose(0, 2, 3, 1)
