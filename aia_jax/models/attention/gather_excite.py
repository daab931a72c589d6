"""A gate of positions and channels from ever larger neighbourhoods: GE3D-DW133 and GE3D-DW333.

They are the AIA paper's versions for clips (Hao et al. 2022, IV-C, Table I) of GE-Net's module.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.models.attention.gate import apply_gate
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.convolution import promote
from aia_jax.ops.depthwise import halve_depthwise
from aia_jax.ops.resize import resize_nearest
from aia_jax.shapes import Array, Float

_STEPS = 3  # convolutions, each of which halves H and W

# He's initialisation by fan-in, as GE-Net's released networks start. A channel sees itself alone.
_he_by_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class GatherExcite(nn.Module):
    """y = x · sigmoid(resize(gather(x))) (GE-θ, Hu et al. 2018b, section 3.3, with extent 8).

    `gather` is three depthwise convolutions with the stride (1, 2, 2), each with batch
    normalisation and no ReLU; `resize` takes the nearest value. The response is float32.

    Variables, n from 1 to 3: params conv{n}/kernel [frames, 3, 3, 1, C], bn{n}/scale and bias [C];
    batch_stats bn{n}/mean and var [C].

    Attributes:
        frames: that a kernel spans: 1 (DW133) or 3 (DW333).
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
        dtype, gathered = jnp.promote_types(x.dtype, jnp.float32), x
        for step in range(1, _STEPS + 1):
            gathered = _HalvingConv(
                x.shape[-1],
                (self.frames, 3, 3),
                (1, 2, 2),
                feature_group_count=x.shape[-1],
                use_bias=False,
                dtype=dtype,
                kernel_init=_he_by_fan_in,
                name=f"conv{step}",
            )(gathered)
            gathered = BatchNorm(  # its rows are clips
                use_running_average=not train,
                momentum=self.bn_momentum,
                epsilon=1e-5,
                dtype=dtype,
                group_rows=self.bn_group_size,
                name=f"bn{step}",
            )(gathered)
        gate = resize_nearest(jax.nn.sigmoid(gathered), *x.shape[2:4])
        self.sow("intermediates", "gate_local", gate)
        return apply_gate(x, gate, self.relu)


def _halve(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    return halve_depthwise(x, kernel[..., 0, :])


class _HalvingConv(nn.Conv):
    """Flax's depthwise Conv with the stride (1, 2, 2), computed by `halve_depthwise`."""

    promote_dtype: Callable[..., Any] = promote
    conv_general_dilated: Callable[..., Any] | None = _halve
