"""The one bottleneck of all networks here, and what a stage of them looks like."""

import functools
from typing import Any

import flax.linen as nn

from aia_jax.models.attention.aia import NONE, Attention
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.ops import residual_relu, temporal_shift
from aia_jax.shapes import Array, Float

STAGE_SIZES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4  # a bottleneck puts out four times its width

# He initialisation by fan-out, as torchvision starts its ResNets.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def carries_temporal(block: int, blocks: int) -> bool:
    """Whether a block gets the shift and the attention: all do, but every other one in stages of 23
    or more (the reference's R101).
    """
    return blocks < 23 or block % 2 == 0


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions around a shortcut (torchvision's ResNet), folded
    over frames.

    Attributes:
        width: channels of the first two convolutions; the block puts out `4 * width`.
        stride: spatial stride of the 3x3 convolution and of the shortcut.
        temporal: "tsm" shifts the input of the first convolution, the shortcut stays unshifted
            ("blockres"); "tsn" does nothing.
        attention: expression, applied after the second convolution and its batch normalisation,
            before that ReLU.
        frozen_bn: batch normalisation by running statistics in training too; not the attention's.
        bn_group_size: clips whose statistics are taken together in training; 0: those of all clips.
    """

    width: int
    stride: int = 1
    temporal: str = "tsn"
    attention: str = NONE
    fold_div: int = 8
    bn_momentum: float = 0.9
    dtype: Any = None
    frozen_bn: bool = False
    bn_group_size: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h2 w2 c4"]:
        clips, frames = x.shape[:2]
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=he_normal)
        norm = functools.partial(
            BatchNorm,
            use_running_average=self.frozen_bn or not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            dtype=self.dtype,
            group_rows=self.bn_group_size * frames,
        )
        fold = lambda v: v.reshape(clips * frames, *v.shape[2:])  # noqa: E731
        unfold = lambda v: v.reshape(clips, frames, *v.shape[1:])  # noqa: E731

        y = temporal_shift(x, self.fold_div) if self.temporal == "tsm" else x
        y = conv(self.width, (1, 1), name="conv1")(fold(y))  # [B·T, H, W, C]
        y = nn.relu(norm(name="bn1")(y))
        # Torch pads by one on every side; "SAME" would pad a strided convolution on one side only.
        y = conv(self.width, (3, 3), strides=self.stride, padding=1, name="conv2")(y)
        y = norm(name="bn2")(y)
        if self.attention != NONE:
            # ReLU before the reshape: XLA for GPUs computes nothing twice across one, so it would
            # write the ReLU's mask.
            y = fold(
                Attention(
                    self.attention,
                    self.bn_momentum,
                    self.bn_group_size,
                    relu=True,
                    name="attention",
                )(unfold(y), train)
            )
        else:
            y = nn.relu(y)
        y = conv(EXPANSION * self.width, (1, 1), name="conv3")(y)
        y = norm(name="bn3")(y)

        shortcut = fold(x)
        if shortcut.shape != y.shape:
            shortcut = conv(
                EXPANSION * self.width, (1, 1), strides=self.stride, name="shortcut_conv"
            )(shortcut)
            shortcut = norm(name="shortcut_bn")(shortcut)
        return unfold(residual_relu(y, shortcut))
