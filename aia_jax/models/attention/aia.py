"""Attention in attention: AIA's module, a gate computed on what another gate refined.

Hao et al., "Attention in Attention: Modeling Context Correlation for Efficient Video
Classification", IEEE TCSVT 2022, section III. `aia_jax.ops.axis_attention` computes the module;
this file creates its variables.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.ops import axis_attention
from aia_jax.ops.axis_attention import axis_gates
from aia_jax.ops.axis_attention.units import UNITS
from aia_jax.shapes import Array, Float

Initializer = Callable[..., Array]


def kaiming_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Draws from a normal of variance 2/27 (He et al. 2015, fan-out 27, ReLU), not truncated.

    The reference initialises the kernels of C, ST and guides this way.
    """
    return jax.random.normal(key, shape, dtype) * (2 / 27) ** 0.5


def xavier_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Draws from a normal of variance 2/(54 + 27) (Glorot & Bengio 2010, fan-in 54, fan-out 27).

    The reference initialises the kernels of hosts with a guide this way.
    """
    return jax.random.normal(key, shape, dtype) * (2 / (54 + 27)) ** 0.5


class AxisAttention(nn.Module):
    """The module C, ST, CinST or STinC, or any other units inside others (paper, Eqs. 1-15).

    Variables of a unit u: params u/conv/kernel [3, 3, 3, 2], u/bn/scale [1], u/bn/bias [1];
    batch_stats u/bn/mean [1], u/bn/var [1].

    Attributes:
        host: units whose gates multiply the feature, from "C", "T", "H" and "W".
        guide: units whose gates refine what the host pools.
        bn_momentum: share of the old running statistics that stays, in training.
        bn_group_size: clips that are normalised together in training; 0: all clips.
        relu: whether max(·, 0) of the refined feature is returned.
    """

    host: tuple[str, ...]
    guide: tuple[str, ...] = ()
    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        """Refines x; in training it also updates the running statistics.

        Raises:
            ValueError: in training, if the clips do not split into groups of `bn_group_size`.
        """
        parameters, statistics = {}, {}
        for unit in (*self.guide, *self.host):
            has_guide = self.guide and unit in self.host
            kernel_init = xavier_normal if has_guide else kaiming_normal
            parameters[unit], statistics[unit] = _UnitVariables(kernel_init, name=unit)()
        if self.is_initializing():
            return x  # the variables exist now, and none depends on a value of x
        if self.is_mutable_collection("intermediates"):
            self._sow_gates(x, parameters, statistics)
        y, new_statistics = axis_attention(
            x,
            parameters,
            statistics,
            host=self.host,
            guide=self.guide,
            train=train,
            bn_momentum=self.bn_momentum,
            bn_group_size=self.bn_group_size,
            relu=self.relu,
        )
        if train:
            for unit, unit_statistics in new_statistics.items():
                self.put_variable("batch_stats", unit, unit_statistics)
        return y

    def _sow_gates(self, x: Array, parameters: Any, statistics: Any) -> None:
        """Leaves the gates of evaluation to whoever asks for them; `axis_attention` keeps none."""
        gates = axis_gates(x, parameters, statistics, host=self.host, guide=self.guide)
        for unit, gate in gates.items():
            role = "guide" if unit in self.guide else "gate"
            self.sow("intermediates", f"{role}_{unit}", jnp.expand_dims(gate, UNITS[unit].axis))

    def gate_sizes(self, shape: tuple[int, ...]) -> list[int]:
        """The number of elements of each unit's gate, for a feature of this shape [B, T, H, W, C].

        Each element costs 54 multiply-accumulates and goes through batch normalisation once.
        """
        return [math.prod(shape) // shape[UNITS[unit].axis] for unit in (*self.guide, *self.host)]


class _UnitVariables(nn.Module):
    """One unit's variables, as `axis_attention` takes them."""

    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        bn_parameters, bn_statistics = _BatchNormVariables(name="bn")()
        kernel = _Kernel(self.kernel_init, name="conv")()
        return {"conv": {"kernel": kernel}, "bn": bn_parameters}, {"bn": bn_statistics}


class _Kernel(nn.Module):
    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> Float[Array, "3 3 3 2"]:
        return self.param("kernel", self.kernel_init, (3, 3, 3, 2))


class _BatchNormVariables(nn.Module):
    """The variables that `nn.BatchNorm` would have for one channel."""

    @nn.compact
    def __call__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        parameters = {
            "scale": self.param("scale", nn.initializers.ones, (1,)),
            "bias": self.param("bias", nn.initializers.zeros, (1,)),
        }
        statistics = {
            "mean": self.variable("batch_stats", "mean", jnp.zeros, (1,)).value,
            "var": self.variable("batch_stats", "var", jnp.ones, (1,)).value,
        }
        return parameters, statistics
