"""The first layers of a ResNet."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.convolution import Conv
from aia_jax.models.stages import he_normal, uniform_as_torch
from aia_jax.shapes import Array, Float


class Stem(nn.Module):
    """The first convolution, BatchNorm and ReLU of a ResNet, and its max-pool.

    Attributes:
        width: channels that it returns.
        kind: "imagenet": 7x7, stride 2, and a 3x3 max-pool, stride 2. "small": 3x3, stride 1.
        bn_group_size: clips over which BatchNorm takes its training statistics; 0: all.
        frames: of a clip.
        use_bias: whether the convolution has a bias, which starts as PyTorch's does.
        kernel_init: of the convolution.
    """

    width: int
    kind: str
    bn_momentum: float
    dtype: Any
    bn_group_size: int = 0
    frames: int = 1
    use_bias: bool = False
    kernel_init: Callable[..., Array] = he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "n h w i"], train: bool) -> Float[Array, "n h2 w2 c"]:
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        conv = Conv(
            self.width,
            (size, size),
            stride,
            padding=size // 2,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            bias_init=uniform_as_torch(size * size * x.shape[-1]),
            name="conv",
        )
        norm = BatchNorm(
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            dtype=self.dtype,
            group_rows=self.bn_group_size * self.frames,
            frames=self.frames,
            name="bn",
        )
        x = nn.relu(norm(conv(x)))
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.kind == "imagenet" else x
