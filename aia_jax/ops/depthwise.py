"""Depthwise convolutions of clips."""

import jax
import jax.numpy as jnp

from aia_jax.ops.clip_convolution import add_shares
from aia_jax.ops.xla_fusion import materialize
from aia_jax.shapes import Array, Float

_STRIDE, _SIZE = 2, 3  # of the window along H and W
_UNPADDED = (0, 0)


@jax.jit  # traced once for each shape
def halve_depthwise(
    x: Float[Array, "b t h w c"], kernel: Float[Array, "d 3 3 c"]
) -> Float[Array, "b t h2 w2 c"]:
    """Convolves each channel for itself, with the stride (1, 2, 2); beyond the ends are zeros.

    H and W are halved, rounded up; T stays. A clip is padded by one pixel on every side, and by one
    frame where the kernel has three. The sum is written tap by tap over strided slices, which are
    elementwise operations: XLA's own convolution of groups of one channel takes 29 to 85 times as
    long on CPUs, its gradient 33 to 53 times (docs/experiments.md, "Depthwise convolutions").

    Args:
        x: float32 or float64.
        kernel: of x's dtype; d is 1 or 3 frames.
    """
    shares = _halve(x, kernel)
    return shares if len(kernel) == 1 else add_shares(shares)


@jax.custom_vjp
def _halve(x: Array, kernel: Array) -> Array:
    """What each of the kernel's frames makes of each frame, one after another, [B, T, h2, w2, d·C].

    It and its gradient are calls that XLA does not inline on CPUs: blocks of equal shapes, which a
    network has several of, compile once.
    """
    return materialize(_halve_by_taps, x, kernel)


def _halve_by_taps(x: Array, kernel: Array) -> Array:
    height, width = (-(-size // _STRIDE) for size in x.shape[2:4])
    # The last window ends with an even size, and one pixel behind an odd one.
    pads = (1, _STRIDE * height - x.shape[2]), (1, _STRIDE * width - x.shape[3])
    padded = jnp.pad(x, (_UNPADDED, _UNPADDED, *pads, _UNPADDED))

    def tap(row: int, column: int) -> Array:
        """What one tap of the kernel sees, [B, T, h2, w2, C]."""
        rows = slice(row, row + _STRIDE * height - 1, _STRIDE)
        columns = slice(column, column + _STRIDE * width - 1, _STRIDE)
        return padded[:, :, rows, columns]

    taps = {(row, column): tap(row, column) for row in range(_SIZE) for column in range(_SIZE)}
    shares = [
        sum(frame[row, column] * seen for (row, column), seen in taps.items()) for frame in kernel
    ]
    return jnp.concatenate(shares, -1)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _halve(x, kernel), (x, kernel)


def _gradient(x: Array, kernel: Array, dshares: Array) -> tuple[Array, Array]:
    _, pull_back = jax.vjp(_halve_by_taps, x, kernel)
    return pull_back(dshares)


def _backward(saved: tuple[Array, Array], dshares: Array) -> tuple[Array, Array]:
    return materialize(_gradient, *saved, dshares)


_halve.defvjp(_forward, _backward)
