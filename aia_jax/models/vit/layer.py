"""The layer of a ViT, with the places where TokShift and MSCA let frames meet."""

import functools
import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.models.dense import DenseGeneral
from aia_jax.models.vit.shift import projections
from aia_jax.ops import attention, fold_frames, shift_heads, temporal_shift, unfold_frames
from aia_jax.shapes import Array, Float

# The limit of torch's start of a linear or convolution kernel is 1/√fan_in, a variance of 1/3 of
# that squared.
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_uniform_bias(fan_in: int) -> nn.initializers.Initializer:
    """Torch's start of the bias of a layer whose kernel sums `fan_in` inputs."""

    def init(key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
        limit = 1 / math.sqrt(fan_in)
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


class Attention(nn.Module):
    """Multi-head self-attention within each frame (Vaswani et al. 2017), with MSCA's shift.

    MSCA (Hashiguchi & Tamaki, "Temporal cross-attention for action recognition", 2022) takes some
    heads of the queries, keys or values from the frames beside: a frame then attends to the frames
    around it at no cost in parameters or products.

    Attributes:
        heads: number of heads; it divides the channels.
        shift: letters of the projections whose heads are shifted, such as "KV"; "" for none.
        moving_heads: heads that come from the frame after, and as many from the one before.
        frames: T, of the clips that the rows belong to.
        dtype: of activations. Softmax is float32 or wider.
    """

    heads: int
    shift: str = ""
    moving_heads: int = 1
    frames: int = 1
    dtype: Any = None

    # The published count, 134.7 G for B/16 on 8x224x224, has no products between activations.
    products_in_macs: ClassVar[bool] = False

    def product_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of queries with keys and of weights with values.

        Args:
            shape: of the input, [B·T, N, C].
        """
        rows, tokens, channels = shape
        return 2 * rows * tokens**2 * channels

    @nn.compact
    def __call__(self, x: Float[Array, "n s c"]) -> Float[Array, "n s c"]:
        channels = x.shape[-1]
        linear = functools.partial(
            DenseGeneral,
            dtype=self.dtype,
            kernel_init=torch_uniform,
            bias_init=torch_uniform_bias(channels),
        )

        def project(name: str) -> Array:  # [B·T, N, heads, C/heads]
            heads = linear((self.heads, channels // self.heads), name=name)(x)
            if name[0].upper() not in self.shift:
                return heads
            heads = unfold_frames(heads, self.frames)
            return fold_frames(shift_heads(heads, self.moving_heads))

        heads = attention(project("query"), project("key"), project("value"))
        return linear(channels, axis=(-2, -1), name="out")(heads)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them.

    Attributes:
        hidden: channels between the layers.
        dtype: of activations.
    """

    hidden: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n s c"]) -> Float[Array, "n s c"]:
        linear = functools.partial(
            DenseGeneral,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(1e-6),
        )
        hidden = nn.gelu(linear(self.hidden, name="fc1")(x), approximate=False)
        return linear(x.shape[-1], name="fc2")(hidden)


class Layer(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a shortcut (Dosovitskiy et al. 2021).

    Attributes:
        heads: of the attention.
        mlp_dim: channels between the MLP's layers.
        shift: a key of `SHIFTS`. "token" is TokShift (Zhang et al. 2021): before the attention
            and before the MLP, shortcuts included, the class token's first channels come from the
            frame after, the next as many from the frame before.
        shift_div: the share that moves each way is 1/shift_div, of channels ("token") or of heads.
        frames: T, of the clips that the rows belong to.
        dtype: of activations.
    """

    heads: int
    mlp_dim: int
    shift: str = "none"
    shift_div: int = 4
    frames: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "n s c"]) -> Float[Array, "n s c"]:
        norm = functools.partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        x = self._shift_class_token(x)
        x = x + Attention(
            self.heads,
            projections(self.shift),
            self.heads // self.shift_div,
            self.frames,
            self.dtype,
            name="attention",
        )(norm(name="norm1")(x))
        x = self._shift_class_token(x)
        return x + Mlp(self.mlp_dim, self.dtype, name="mlp")(norm(name="norm2")(x))

    def _shift_class_token(self, x: Array) -> Array:
        if self.shift != "token":
            return x
        token = unfold_frames(x[:, 0], self.frames)[:, :, None, None]  # [B, T, 1, 1, C]
        token = fold_frames(temporal_shift(token, self.shift_div)[:, :, 0, 0])
        # A choice, unlike a concatenation, is one pass over x that XLA fuses with its readers.
        is_class_token = jnp.arange(x.shape[1])[:, None] == 0
        return jnp.where(is_class_token, token[:, None], x)


RematLayer = nn.remat(Layer)
