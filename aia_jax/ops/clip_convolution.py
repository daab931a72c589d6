"""Convolutions over the frames, rows and columns of clips, as 2-D convolutions of frames."""

import functools

import jax
import jax.numpy as jnp

from aia_jax.ops.convolution import convolve
from aia_jax.ops.frames import CLIPS, exchange_borders, fold_frames, time_parts, unfold_frames
from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float

_FRAMES = ("NHWC", "HWIO", "NHWC")


def convolve_clips(
    x: Float[Array, "b t h w i"], kernel: Float[Array, "3 kh kw i o"], stride: int = 1
) -> Float[Array, "b t h2 w2 o"]:
    """Convolves clips with a kernel of three frames; frames and pixels beyond the ends are zero.

    It is the 3-D convolution with the stride (1, stride, stride) and a padding that keeps T, and
    H and W at stride 1. One 2-D convolution computes what each of the kernel's three frames makes
    of each frame of the clip, then every frame adds up its own share and its neighbours'. On CPUs
    XLA's 3-D convolution takes 1.4 to 4.4 times as long, and its gradient 1.4 to 8 times
    (docs/experiments.md, "Clips: XLA's 3-D convolution"). On a mesh the devices along `time`
    exchange the shares at their ends, and nothing else.

    Args:
        x: any float dtype.
        kernel: of x's dtype; or float32, where `needs_float32_sums`. kh and kw are odd.
        stride: of H and W.
    """
    frames, (height, width, _, outputs) = x.shape[1], kernel.shape[1:]
    convolution = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=[(height // 2, height // 2), (width // 2, width // 2)],
        dimension_numbers=_FRAMES,
    )
    taps = jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], 3 * outputs)  # [kh, kw, i, 3·o]
    rows = fold_frames(x)
    if kernel.dtype == x.dtype:
        shares = convolution(rows, taps)
    else:
        shares = convolve(rows, taps, convolution)
    return add_shares(unfold_frames(shares, frames))


def add_shares(shares: Float[Array, "b t h w o3"]) -> Float[Array, "b t h w o"]:
    """Adds up what a kernel's three frames make of frames: each frame's own, and its neighbours'.

    Args:
        shares: of the kernel's first, second and third frame, one after another along the channels,
            [B, T, H, W, 3·o]; any float dtype.
    """
    if time_parts() == 1:
        return _add_shares(shares, *_zero_borders(shares))

    def add_own_frames(shares: Array) -> Array:
        following, preceding = exchange_borders(*_borders(shares))
        return _add_shares(shares, preceding, following)

    return jax.shard_map(add_own_frames, in_specs=CLIPS, out_specs=CLIPS)(shares)


def _borders(shares: Array) -> tuple[Array, Array]:
    """The first frame's share in the frame before it, the last frame's in the one after it."""
    outputs = shares.shape[-1] // 3
    return shares[:, :1, ..., 2 * outputs :], shares[:, -1:, ..., :outputs]


def _zero_borders(shares: Array) -> tuple[Array, Array]:
    first, last = _borders(shares)
    return jnp.zeros_like(last), jnp.zeros_like(first)


def _add_shares(shares: Array, preceding: Array, following: Array) -> Array:
    """Adds up the shares of three frames in each frame.

    Args:
        shares: of the kernel's first, second and third frame, one after another, [B, T, H, W, 3·o].
        preceding: the share of the frame before the first one in it, [B, 1, H, W, o].
        following: the share of the frame after the last one in it, [B, 1, H, W, o].
    """
    after, own, before = jnp.split(at_least_float32(shares), 3, axis=-1)
    # The kernel's first frame sees the frame before: its share goes one frame on.
    from_before = jnp.concatenate([at_least_float32(preceding), after[:, :-1]], 1)
    from_after = jnp.concatenate([before[:, 1:], at_least_float32(following)], 1)
    return (from_before + own + from_after).astype(shares.dtype)
