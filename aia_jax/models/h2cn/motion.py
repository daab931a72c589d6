"""H2CN's motion path: what moves within the five frames of a segment, as the stem's output looks.

Tan et al. 2022, the frame level of the hierarchy; the constants are those of the authors' code.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.errors import UserError
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.h2cn.hourglass import FrameHourglass
from aia_jax.models.resnet.stem import Stem
from aia_jax.models.stages import he_normal
from aia_jax.shapes import Array, Float

_EXPANSION = 3  # of the second hourglass convolution: nine channels of the three colours


class MotionPath(nn.Module):
    """Turns the five frames of a segment into one map of motion.

    The frames at half their size go through two hourglass convolutions, 5 → 3 → 1 frames, each with
    BatchNorm and ReLU, and then through layers such as a ResNet's first ones. All before these is
    computed in float32 at least: what is left of the difference between frames that are nearly the
    same would be noise in bfloat16.

    Attributes:
        width: channels that it returns.
        kind: of the last layers, "imagenet" or "small" (`Stem`).
        dtype: of the result.
        bn_group_size: clips over which BatchNorm takes its training statistics; 0: all.
        segments: of a clip.
    """

    width: int
    kind: str
    bn_momentum: float
    dtype: Any
    bn_group_size: int
    segments: int

    @nn.compact
    def __call__(self, x: Float[Array, "n 5 h w 3"], train: bool) -> Float[Array, "n h2 w2 c"]:
        """Computes the map.

        Args:
            x: the segments' frames; float32 or float64.
            train: whether BatchNorm takes this batch's statistics.

        Raises:
            UserError: frames of less than 2x2 pixels have no half.
        """
        if min(x.shape[2:4]) < 2:
            raise UserError(
                f"frames are {x.shape[2]}x{x.shape[3]} pixels, and H2CN halves them; use frames of "
                "2x2 at least (data.crop)"
            )
        x = _halve(x).transpose(0, 2, 3, 1, 4)  # [N, H/2, W/2, 5, 3]
        hourglasses = (
            FrameHourglass(1, _difference, name="hourglass1"),
            # Kaiming's normal (He et al. 2015) by torch's count: fan-out 3·9.
            FrameHourglass(
                _EXPANSION,
                nn.initializers.normal((2 / (3 * _EXPANSION * x.shape[-1])) ** 0.5),
                name="hourglass2",
            ),
        )
        for number, hourglass in enumerate(hourglasses, 1):
            norm = BatchNorm(
                use_running_average=not train,
                momentum=self.bn_momentum,
                epsilon=1e-5,
                dtype=x.dtype,
                group_rows=self.bn_group_size * self.segments,
                frames=self.segments,
                name=f"bn{number}",
            )
            x = nn.relu(norm(hourglass(x)))
        return Stem(
            self.width,
            self.kind,
            self.bn_momentum,
            self.dtype,
            self.bn_group_size,
            self.segments,
            kernel_init=_same_for_all_channels,
            name="stem",
        )(x[..., 0, :].astype(self.dtype), train)


def _halve(x: Array) -> Array:
    """The mean of every 2x2 pixels of [N, S, H, W, C]; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in x.shape[2:4])
    x = x[:, :, :height, :width]
    # Four slices that are added up: XLA's windowed sum takes longer on CPUs.
    rows = x[:, :, ::2] + x[:, :, 1::2]
    return (rows[:, :, :, ::2] + rows[:, :, :, 1::2]) * 0.25


def _difference(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """The start of the first w: 0 before, 1 now, -1 after. The path sees what the next changes."""
    del key
    weights = jnp.array([0, 1, -1], dtype).reshape(3, *[1] * (len(shape) - 1))
    return jnp.broadcast_to(weights, shape)


def _same_for_all_channels(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """The mean over three colours of a ResNet's first kernel, the same for each channel.

    The authors spread the colours' mean of the pretrained kernel; this is that of a fresh one.
    """
    *size, _, width = shape
    colours = he_normal(key, (*size, 3, width), dtype)
    return jnp.broadcast_to(colours.mean(-2, keepdims=True), shape)
