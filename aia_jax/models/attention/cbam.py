"""A gate of channels and then one of positions: CBAM3D177 and CBAM3D377.

They are the AIA paper's versions for clips (Hao et al. 2022, IV-C, Table I) of CBAM (Woo et al.
2018), whose pools become those of clips and whose 7x7 convolution becomes 1x7x7 or 3x7x7.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.models.attention.gate import apply_gate, of_clip
from aia_jax.models.attention.squeeze_excite import hidden_channels
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.convolution import ClipConv, Conv
from aia_jax.models.stages import he_normal, uniform_as_torch
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.ops.axis_attention import pool_axis
from aia_jax.shapes import Array, Float

_W, _C = 3, 4  # axes of [B, T, H, W, C]


class CBAM(nn.Module):
    """CBAM3D177 or CBAM3D377 (Woo et al. 2018, Eqs. 1 to 3).

        z = x · sigmoid(M(mean(x)) + M(max(x)))
        y = z · sigmoid(BN(conv([max_C(z), mean_C(z)])))

    `mean` and `max` are over T, H and W. M is two linear layers with biases, a sixteenth of the
    channels and a ReLU between them. The variables start as those of CBAM's released ResNets:
    biases at 0, and the BatchNorm's scale at 0 too, so that the second gate is 1/2 everywhere.

    Variables: params channel_gate/fc1/{kernel [C, C/16], bias}, channel_gate/fc2/{kernel [C/16, C],
    bias}, spatial_gate/conv/kernel ([7, 7, 2, 1] or [3, 7, 7, 2, 1]), spatial_gate/bn/{scale, bias}
    [1]; batch_stats spatial_gate/bn/{mean, var} [1].

    Attributes:
        frames: that the convolution's kernel spans: 1 (CBAM3D177) or 3 (CBAM3D377).
        bn_momentum: share of the old running statistics that stays, in training.
        bn_group_size: clips that are normalised together in training; 0: all clips.
        relu: whether max(y, 0) is returned.
    """

    frames: int
    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        """Refines x; in training it also updates the running statistics.

        Raises:
            ValueError: in training, if the clips do not split into groups of `bn_group_size`.
        """
        gate = _ChannelGate(name="channel_gate")(x)
        self.sow("intermediates", "gate_channel", gate)
        z = apply_gate(x, gate)
        gate = _SpatialGate(self.frames, self.bn_momentum, self.bn_group_size, name="spatial_gate")(
            z, train
        )
        self.sow("intermediates", "gate_spatial", gate)
        return apply_gate(z, gate, self.relu)

    def pool_elements(self, shape: tuple[int, ...]) -> int:
        """Numbers that go into and come out of the average pool, for x of this shape.

        The paper counts neither the maxima nor the mean over channels.
        """
        return math.prod(shape) + shape[0] * shape[-1]


class _ChannelGate(nn.Module):
    """sigmoid(M(mean(x)) + M(max(x))), float32."""

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b 1 1 1 c"]:
        channels = x.shape[-1]
        # The pass over x takes the maximum and the mean of each row, [B, T, H, C].
        maximum, mean = pool_axis(x, _W)
        pools = jnp.stack([mean.mean((1, 2)), maximum.max((1, 2))])  # [2, B, C]
        hidden = nn.Dense(
            hidden_channels(channels),
            dtype=pools.dtype,
            kernel_init=uniform_as_torch(channels),
            name="fc1",
        )(pools)
        excited = nn.Dense(
            channels,
            dtype=pools.dtype,
            kernel_init=uniform_as_torch(hidden_channels(channels)),
            name="fc2",
        )(nn.relu(hidden))
        return of_clip(jax.nn.sigmoid(excited.sum(0)))


class _SpatialGate(nn.Module):
    """sigmoid(BN(conv([max_C(z), mean_C(z)]))), float32."""

    frames: int
    bn_momentum: float
    bn_group_size: int

    @nn.compact
    def __call__(self, z: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w 1"]:
        pools = jnp.stack(pool_axis(z, _C), -1)  # [B, T, H, W, 2]
        if self.frames == 1:
            conv = Conv(
                1, (7, 7), padding=3, use_bias=False, dtype=pools.dtype, kernel_init=he_normal,
                name="conv",
            )  # fmt: skip
            response = unfold_frames(conv(fold_frames(pools)), z.shape[1])
        else:
            response = ClipConv(
                1, (3, 7, 7), use_bias=False, dtype=pools.dtype, kernel_init=he_normal, name="conv"
            )(pools)
        norm = BatchNorm(  # its rows are clips
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            dtype=pools.dtype,
            scale_init=nn.initializers.zeros,
            group_rows=self.bn_group_size,
            name="bn",
        )
        return jax.nn.sigmoid(norm(response))
