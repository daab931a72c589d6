"""The block of a ResNet, with the places of a temporal shift and of attention in it."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from aia_jax.models.attention.expression import Attention, site_of
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.convolution import Conv
from aia_jax.models.resnet.non_local import NonLocal
from aia_jax.models.stages import EXPANSION, he_normal, uniform_as_torch
from aia_jax.ops import fold_frames, residual_relu, temporal_shift, unfold_frames
from aia_jax.shapes import Array, Float

# The middle of a block: rows [B·T, H, W, width], width, stride, frames of a clip, dtype → rows
# [B·T, H/stride, W/stride, width]. It is called within the block's compact method.
Middle = Callable[[Array, int, int, int, Any], Array]


def convolve_frames(rows: Array, width: int, stride: int, frames: int, dtype: Any) -> Array:
    """The middle of a ResNet's block: a 3x3 convolution of each frame, the variable `conv2`."""
    # Torch pads by one on every side; "SAME" would pad a strided convolution on one side only.
    return Conv(
        width,
        (3, 3),
        strides=stride,
        padding=1,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal,
        name="conv2",
    )(rows)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, as torchvision has them; with attention.

    The convolutions see frames, [B·T, H, W, C]; the shift and the attention see clips,
    [B, T, H, W, C]. Where the attention acts is its site (`site_of`): "after_conv1" on the output
    of the first convolution's ReLU, "after_conv2" between the second convolution's BatchNorm and
    ReLU, "after_conv3" on what is added to the shortcut.

    Attributes:
        width: channels of the first two convolutions; the block returns `4 * width`.
        stride: spatial stride of the 3x3 convolution and of the shortcut.
        temporal: "tsm" shifts the input of the first convolution and not the shortcut ("blockres"
            in TSM's code); "tsn" does nothing.
        attention: the expression, or "none".
        fold_div: the shift moves 1/fold_div of the channels each way.
        frozen_bn: in training too, BatchNorm normalises by its running statistics and does not
            update them. The BatchNorm of attention is not affected.
        bn_group_size: clips over which BatchNorm takes its training statistics; 0: all.
        gate: makes a module that refines the output of the first convolution's ReLU, from
            `bn_momentum`, `bn_group_size` and `name`; None: there is none.
        shortcut_bias: whether the shortcut's convolution has a bias.
        non_local: whether a non-local block follows.
        middle: what stands in the place of the 3x3 convolution.
    """

    width: int
    stride: int = 1
    temporal: str = "tsn"
    attention: str = "none"
    fold_div: int = 8
    bn_momentum: float = 0.9
    dtype: Any = None
    frozen_bn: bool = False
    bn_group_size: int = 0
    gate: Callable[..., nn.Module] | None = None
    shortcut_bias: bool = False
    non_local: bool = False
    middle: Middle = convolve_frames

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h2 w2 c4"]:
        frames = x.shape[1]
        site = site_of(self.attention)
        conv = functools.partial(Conv, use_bias=False, dtype=self.dtype, kernel_init=he_normal)
        norm = functools.partial(
            BatchNorm,
            use_running_average=self.frozen_bn or not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            dtype=self.dtype,
            group_rows=self.bn_group_size * frames,
            frames=frames,
        )

        def attend(v: Array, relu: bool) -> Array:  # [B·T, H, W, C], folded
            attention = Attention(
                self.attention, self.bn_momentum, self.bn_group_size, relu, name="attention"
            )
            return fold_frames(attention(unfold_frames(v, frames), train))

        y = temporal_shift(x, self.fold_div) if self.temporal == "tsm" else x
        y = conv(self.width, (1, 1), name="conv1")(fold_frames(y))
        y = nn.relu(norm(name="bn1")(y))
        if site == "after_conv1":
            y = attend(y, relu=False)
        if self.gate is not None:
            gate = self.gate(
                bn_momentum=self.bn_momentum, bn_group_size=self.bn_group_size, name="gate"
            )
            y = fold_frames(gate(unfold_frames(y, frames), train))
        y = self.middle(y, self.width, self.stride, frames, self.dtype)
        y = norm(name="bn2")(y)
        # The attention applies the ReLU before `fold_frames`, because XLA for GPUs fuses nothing
        # across a reshape: a ReLU after it would write its mask to memory.
        y = attend(y, relu=True) if site == "after_conv2" else nn.relu(y)
        y = conv(EXPANSION * self.width, (1, 1), name="conv3")(y)
        y = norm(name="bn3")(y)
        if site == "after_conv3":
            y = attend(y, relu=False)

        shortcut = fold_frames(x)
        if shortcut.shape != y.shape:
            shortcut = conv(
                EXPANSION * self.width,
                (1, 1),
                strides=self.stride,
                use_bias=self.shortcut_bias,
                bias_init=uniform_as_torch(x.shape[-1]),
                name="shortcut_conv",
            )(shortcut)
            shortcut = norm(name="shortcut_bn")(shortcut)
        y = unfold_frames(residual_relu(y, shortcut), frames)
        if self.non_local:
            y = NonLocal(self.bn_momentum, self.dtype, self.bn_group_size, name="non_local")(
                y, train
            )
        return y


RematBottleneck = nn.remat(Bottleneck, static_argnums=2)  # argument 2 is `train`
