"""H2CN's gate of channels, which sees the frames before and after (its code calls it "chgc").

Tan et al. 2022, the clip level of the hierarchy; the constants are those of the authors' code.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.convolution import Conv
from aia_jax.models.h2cn.hourglass import Kernel
from aia_jax.models.stages import he_normal
from aia_jax.ops import fold_frames, temporal_shift, unfold_frames
from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float

_REDUCTION = 16


class ClipHourglassGate(nn.Module):
    """Multiplies every channel of every frame by a gate from an hourglass convolution over frames.

    A 1x1 convolution and BatchNorm reduce the C channels to b of C/16. An hourglass convolution
    joins the frames, m[t] = w₀·A(b[t-1]) + w₁·b[t] + w₂·A(b[t+1]), where A is a depthwise 3x3
    convolution and frames beyond the ends are zero. The gate is the sigmoid of BatchNorm of a 1x1
    convolution, back to C channels, of m's mean over the frame.

    Nothing nonlinear stands between b and this mean, so A(b) and m are never computed: their means
    are sums of b (`mean_of_convolution`). Everything behind b is in float32 at least.

    Variables: reduce/kernel [1, 1, C, C/16], reduce_bn, spatial/kernel [3, 3, C/16] (A's),
    temporal/kernel [3, 1, 1, C/16] (w), expand/kernel [1, 1, C/16, C], expand_bn.

    Attributes:
        bn_momentum: share of the old running statistics that stays, in training.
        bn_group_size: clips that are normalised together in training; 0: all clips.
    """

    bn_momentum: float = 0.9
    bn_group_size: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        """Refines x; a network that has fewer than 16 channels here reduces them to one."""
        frames, channels = x.shape[1], x.shape[-1]
        reduced = _reduced(channels)
        conv = functools.partial(Conv, use_bias=False, kernel_init=he_normal)
        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            group_rows=self.bn_group_size * frames,
            frames=frames,
        )
        # He's normal by fan-out, which torch's own networks count over all channels; Xavier's
        # normal by torch's count, fan-in 3 and fan-out 3·C/16.
        spatial_init = nn.initializers.normal((2 / (9 * reduced)) ** 0.5)
        temporal_init = nn.initializers.normal((2 / (3 + 3 * reduced)) ** 0.5)
        spatial = Kernel(spatial_init, (3, 3, reduced), name="spatial")()
        temporal = Kernel(temporal_init, (3, 1, 1, reduced), name="temporal")()[:, 0, 0]

        b = conv(reduced, (1, 1), dtype=x.dtype, name="reduce")(fold_frames(x))
        b = at_least_float32(norm(dtype=x.dtype, name="reduce_bn")(b))  # [B·T, H, W, C/16]
        own = unfold_frames(b.mean((1, 2), keepdims=True), frames)  # [B, T, 1, 1, C/16]
        other = unfold_frames(mean_of_convolution(b, spatial.astype(b.dtype)), frames)
        # A shift whose two halves move all channels: the first from t + 1, the second from t - 1.
        neighbours = temporal_shift(jnp.concatenate([other, other], -1), fold_div=2)
        after, before = jnp.split(neighbours, 2, axis=-1)
        w = temporal.astype(b.dtype)
        mean = fold_frames(w[0] * before + w[1] * own + w[2] * after)

        gate = conv(channels, (1, 1), dtype=b.dtype, name="expand")(mean)
        gate = jax.nn.sigmoid(norm(dtype=b.dtype, name="expand_bn")(gate))
        gate = unfold_frames(gate, frames)  # [B, T, 1, 1, C]
        self.sow("intermediates", "gate_channels", gate)
        return x * gate.astype(x.dtype)

    def conv_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of the two depthwise convolutions, for an input [B, T, H, W, C].

        They count as the authors' code computes them, over whole maps.
        """
        *positions, channels = shape
        return math.prod(positions) * _reduced(channels) * (9 + 3)


def _reduced(channels: int) -> int:
    return max(1, channels // _REDUCTION)


def mean_of_convolution(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c"]
) -> Float[Array, "n 1 1 c"]:
    """Computes the mean over H and W of a depthwise 3x3 convolution, of padding 1, without it.

    Each of the kernel's nine weights multiplies the sum of x over the pixels that it meets: all of
    them, without the first or the last row, without the first or the last column.
    """
    height, width = x.shape[1:3]
    columns = _sums_of_windows(x, 2)  # three of [N, H, C]
    windows = jnp.stack([jnp.stack(_sums_of_windows(column, 1)) for column in columns], 1)
    mean = (windows * kernel[:, :, None]).sum((0, 1)) / (height * width)  # of [3, 3, N, C]
    return mean[:, None, None]


def _sums_of_windows(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Sums along an axis: without its last element, of all, and without its first."""
    size = x.shape[axis]
    total = x.sum(axis)
    first, last = (jax.lax.index_in_dim(x, k, axis, keepdims=False) for k in (0, size - 1))
    return total - last, total, total - first
