"""The hourglass convolution between frames of a segment (H2CN's code calls it "fhgc").

Its receptive field is one pixel of the middle frame and a wide window of the frames before and
after: an hourglass, seen along time (Tan et al. 2022, "HgC").
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.shapes import Array, Float

Initializer = Callable[..., Array]

_DILATION = 2  # of the 3x3 window in the outer frames


class Kernel(nn.Module):
    """The kernel of a convolution that no layer of Flax computes."""

    kernel_init: Initializer
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Array:
        return self.param("kernel", self.kernel_init, self.shape)


class FrameHourglass(nn.Module):
    """Joins every three consecutive frames of a segment into one, S → S - 2 frames.

    Frame t of the result is w₀·A(x[t-1]) + w₁·x[t] + w₂·A(x[t+1]), where A is a 3x3 convolution of
    dilation 2; each channel for itself. With `expansion` e, each channel gives e channels that
    share its A and have their own w.

    Variables: spatial/kernel [3, 3, C], A's; temporal/kernel [3, 1, 1, e·C], w.

    Attributes:
        expansion: channels that each channel gives.
        temporal_init: of w.
    """

    expansion: int
    temporal_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "n h w s c"]) -> Float[Array, "n h w s2 c2"]:
        channels = x.shape[-1]
        # Xavier's normal (Glorot & Bengio 2010) by torch's count: fan-in 9, fan-out 9·C.
        spatial_init = nn.initializers.normal((2 / (9 + 9 * channels)) ** 0.5)
        spatial = Kernel(spatial_init, (3, 3, channels), name="spatial")()
        shape = (3, 1, 1, self.expansion * channels)
        temporal = Kernel(self.temporal_init, shape, name="temporal")()
        return join_frames(x, spatial, temporal[:, 0, 0])

    def conv_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of the two depthwise convolutions, for an input [N, H, W, S, C]."""
        rows, height, width, frames, channels = shape
        outputs = (frames - 2) * self.expansion * channels
        return rows * height * width * (9 * frames * channels + 3 * outputs)


def join_frames(
    x: Float[Array, "n h w s c"], spatial: Float[Array, "3 3 c"], temporal: Float[Array, "3 o"]
) -> Float[Array, "n h w s2 o"]:
    """Computes a `FrameHourglass`, all frames and channels in one 2-D convolution.

    Its kernel [3, 3, S·C, (S-2)·O] is mostly zeros. For the 3 channels of a video that is faster on
    CPUs than depthwise convolutions (forward and backward 31 ms, 284 ms; 8 segments of 5 x 112 x
    112) and than nine shifted products (69 ms).
    """
    frames, channels = x.shape[-2:]
    kernel = _joint_kernel(spatial, temporal, frames).reshape(3, 3, frames * channels, -1)
    joined = jax.lax.conv_general_dilated(
        x.reshape(*x.shape[:3], frames * channels),
        kernel.astype(x.dtype),
        window_strides=(1, 1),
        padding=((_DILATION, _DILATION),) * 2,
        rhs_dilation=(_DILATION, _DILATION),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # The difference of two frames that are nearly the same: TF32 would leave noise of it.
        precision=jax.lax.Precision.HIGHEST,
    )
    return joined.reshape(*x.shape[:3], frames - 2, temporal.shape[-1])


def _joint_kernel(spatial: Array, temporal: Array, frames: int) -> Array:
    """[3, 3, S, C, S-2, O]: what each frame and channel adds to each frame and channel."""
    channels, outputs = spatial.shape[-1], temporal.shape[-1]
    expansion = outputs // channels
    around = jnp.repeat(spatial, expansion, axis=-1)  # [3, 3, O]
    centre = jnp.zeros_like(around).at[1, 1].set(1)
    # The kernel on the frame before, on the frame itself, and on the frame after.
    triple = jnp.stack([around, centre, around]) * temporal[:, None, None]
    # Output frame t is the input's frame t + 1, so its triple is the input's t, t + 1 and t + 2.
    place = np.stack([np.eye(frames, frames - 2, -step) for step in range(3)])
    same_channel = np.repeat(np.eye(channels), expansion, axis=1)
    return jnp.einsum(
        "dhwo,dst,co->hwscto",
        triple,
        place.astype(triple.dtype),
        same_channel.astype(triple.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
