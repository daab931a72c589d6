"""Gates of channels from one look at the whole clip: SE3D, GE3D-G and S3D-G.

They are the AIA paper's versions for clips (Hao et al. 2022, IV-C, Table I) of published modules.
Each takes the mean of a feature over T, H and W, so none sees where or when something is.
"""

import math

import flax.linen as nn
import jax

from aia_jax.models.attention.gate import apply_gate, mean_of_clip, of_clip
from aia_jax.shapes import Array, Float

REDUCTION = 16  # channels in for each channel between two linear layers

_he_by_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_truncated_normal = nn.initializers.truncated_normal(0.01)


class SqueezeExcite(nn.Module):
    """SE3D: y = x · sigmoid(W2 · max(W1 · mean(x), 0)) (Hu et al. 2018, Eqs. 2 to 4).

    The mean is over T, H and W where SE-Net's is over H and W. W1 and W2 have no biases, and a
    sixteenth of the channels lies between them. They start by He's initialisation, as SE-Net's do.

    Variables: params fc1/kernel [C, C/16], fc2/kernel [C/16, C].

    Attributes:
        relu: whether max(y, 0) is returned.
        bn_momentum, bn_group_size: not used; there is no batch normalisation.
    """

    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        channels, squeezed = x.shape[-1], mean_of_clip(x)
        hidden = nn.Dense(
            hidden_channels(channels),
            use_bias=False,
            dtype=squeezed.dtype,
            kernel_init=_he_by_fan_in,
            name="fc1",
        )(squeezed)
        excited = nn.Dense(
            channels, use_bias=False, dtype=squeezed.dtype, kernel_init=_he_by_fan_in, name="fc2"
        )(nn.relu(hidden))
        return _refine(self, x, excited, self.relu)

    def pool_elements(self, shape: tuple[int, ...]) -> int:
        """Numbers that go into and come out of the pool, for x of this shape [B, T, H, W, C]."""
        return _pool_elements(shape)

    def repeated_macs(self, shape: tuple[int, ...]) -> int:
        """What the paper's FLOPs have besides: its linear layers count once for each frame.

        The pool and the layers give the same for all frames of a clip, so they run once here.
        """
        batch, frames, *_, channels = shape
        return batch * (frames - 1) * 2 * channels * hidden_channels(channels)


class GatherExciteGlobal(nn.Module):
    """GE3D-G: y = x · sigmoid(mean(x)), without parameters (GE-θ⁻, Hu et al. 2018b, section 3.2).

    The mean is over T, H and W where GE-Net's is over H and W.

    Attributes:
        relu: whether max(y, 0) is returned.
        bn_momentum, bn_group_size: not used; there is no batch normalisation.
    """

    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        return _refine(self, x, mean_of_clip(x), self.relu)

    def pool_elements(self, shape: tuple[int, ...]) -> int:
        """Numbers that go into and come out of the pool, for x of this shape [B, T, H, W, C]."""
        return _pool_elements(shape)


class FeatureGating(nn.Module):
    """S3D-G: y = x · sigmoid(W · mean(x) + b) (Xie et al. 2018, section 5).

    The mean is over T, H and W. W starts as in S3D-G's released code, whose layer has no bias; the
    AIA paper's number of parameters needs one.

    Variables: params fc/kernel [C, C], fc/bias [C].

    Attributes:
        relu: whether max(y, 0) is returned.
        bn_momentum, bn_group_size: not used; there is no batch normalisation.
    """

    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        squeezed = mean_of_clip(x)
        layer = nn.Dense(
            x.shape[-1], dtype=squeezed.dtype, kernel_init=_truncated_normal, name="fc"
        )
        return _refine(self, x, layer(squeezed), self.relu)

    def pool_elements(self, shape: tuple[int, ...]) -> int:
        """Numbers that go into and come out of the pool, for x of this shape [B, T, H, W, C]."""
        return _pool_elements(shape)


def hidden_channels(channels: int) -> int:
    """The channels between the two linear layers of SE3D and of CBAM3D."""
    return max(1, channels // REDUCTION)


def _refine(module: nn.Module, x: Array, excited: Float[Array, "b c"], relu: bool) -> Array:
    """Multiplies x by the sigmoid of a vector of each clip, and lets others see that gate."""
    gate = of_clip(jax.nn.sigmoid(excited))
    module.sow("intermediates", "gate_channel", gate)
    return apply_gate(x, gate, relu)


def _pool_elements(shape: tuple[int, ...]) -> int:
    return math.prod(shape) + shape[0] * shape[-1]
