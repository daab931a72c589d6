"""SV-Mix's selective module (Tan et al. 2023, arXiv 2309.09534).

The module sees the last feature maps of a clip and of its partner, and says for every place of the
clip, or for every frame, how much of it the partner gives.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.ops.xla_fusion import at_least_float32
from aia_jax.shapes import Array, Float, Int

MODES = ("both", "spatial", "temporal")

# 1 / sqrt(inputs) is the largest initial value, as in torch's linear layer.
_torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_FIRST_WEIGHT_OF_SHARE = 4.0  # the authors'


class SelectiveModule(nn.Module):
    """Attention of a clip to its partner, which gives the partner's mask.

    Queries are a linear layer of the clip's features, keys the same layer of the partner's, values
    another one of the partner's with one output. Features have one channel more: λ − ½ in the clip,
    ½ − λ in the partner, where λ is the share of the clip that is to stay. The mask is the sigmoid
    of softmax(q·kᵀ / √d)·v.

    Attributes:
        mode: what is attended to. "spatial": the places of the partner's frame of the same number,
            so that a mask differs from place to place. "temporal": the partner's frames, each by
            the mean of its map, so that a mask differs from frame to frame. "both": either of them,
            as the call says.
    """

    mode: str = "both"

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "b t h w c"],
        share: Float[Array, ""],
        partner: Int[Array, " b"],
        temporal: Array | bool,
    ) -> Float[Array, "b t h w"]:
        """Computes the weight of the partner at every position of the feature map, from 0 to 1.

        Args:
            features: the last feature map of every clip of the batch, any float dtype; the module
                computes in float32 (float64 for float64).
            share: λ, the share of the clip that is to stay.
            partner: the row of each clip's partner.
            temporal: a truth value, which of the two in mode "both".
        """
        shape, channels = features.shape[:-1], features.shape[-1]
        features = at_least_float32(features)
        if self.mode == "temporal":
            features = features.mean((2, 3), keepdims=True)

        # Layers are linear: maps are projected once for clip and partner, and pooled afterwards.
        query = _LinearWithShare(max(channels // 2, 1), _torch_uniform, name="query")
        value = _LinearWithShare(1, _first_value_weights, name="value")
        offset = share - 0.5
        projected, of_share = query(features)
        queries, keys = projected + offset * of_share, projected[partner] - offset * of_share
        projected, of_share = value(features)
        values = projected[partner] - offset * of_share

        def frames(x: Array) -> Array:  # [B, T, D]
            return x.mean((2, 3))

        def places(x: Array) -> Array:  # [B, T, H·W, D]
            return x.reshape(*x.shape[:2], -1, x.shape[-1])

        masks = {}
        if self.mode != "spatial":
            mask = _attend(frames(queries), frames(keys), frames(values))
            masks["temporal"] = jnp.broadcast_to(mask[:, :, None, None], shape)
        if self.mode != "temporal":
            masks["spatial"] = _attend(places(queries), places(keys), places(values)).reshape(shape)
        if self.mode == "both":
            masks["both"] = jnp.where(temporal, masks["temporal"], masks["spatial"])
        return nn.sigmoid(masks[self.mode])


class _LinearWithShare(nn.Module):
    """A linear layer of features and λ's channel, which has one value for a whole batch.

    It returns the outputs where that channel is 0, and what a 1 in it adds to them.
    """

    outputs: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, features: Array) -> tuple[Array, Array]:
        inputs = features.shape[-1] + 1
        kernel = self.param("kernel", self.kernel_init, (inputs, self.outputs))
        bias = self.param("bias", self._bias_init, (self.outputs,), inputs)
        return features @ kernel[:-1] + bias, kernel[-1]

    def _bias_init(self, key: Array, shape: tuple[int, ...], inputs: int) -> Array:
        if self.outputs == 1:
            return jnp.zeros(shape)  # the values'
        return jax.random.uniform(key, shape, minval=-(inputs**-0.5), maxval=inputs**-0.5)


def _first_value_weights(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = float) -> Array:
    return _torch_uniform(key, shape, dtype).at[-1].set(_FIRST_WEIGHT_OF_SHARE)


def _attend(
    queries: Float[Array, "*rows n d"],
    keys: Float[Array, "*rows n d"],
    values: Float[Array, "*rows n 1"],
) -> Float[Array, "*rows n"]:
    products = jnp.einsum("...nd,...md->...nm", queries, keys) / queries.shape[-1] ** 0.5
    return jnp.einsum("...nm,...m->...n", nn.softmax(products), values[..., 0])
