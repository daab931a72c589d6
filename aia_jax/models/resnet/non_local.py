"""The non-local block: every position of a clip sees all others (Wang et al. 2018, Fig. 2)."""

from typing import Any

import flax.linen as nn

from aia_jax.errors import UserError
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.convolution import Conv
from aia_jax.models.stages import uniform_as_torch
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.ops.clip_attention import attend_clip
from aia_jax.shapes import Array, Float

_POOL = (2, 2)  # of keys and values; rows and columns that are left over are dropped


class NonLocal(nn.Module):
    """x + BN(out(softmax(theta(x) · phi(x)) g(x))), the softmax over all positions of a clip.

    theta, phi and g are 1x1 convolutions to half of the channels, and out is one back to all of
    them; all have biases. phi and g are max-pooled by 2x2, so the attention matrix is
    [B, T·H·W, T·H·W/4]. The BatchNorm's scale starts as 0: a fresh block does nothing. These are
    the embedded Gaussian blocks of TSM's released code (Lin et al. 2019, `ops/non_local.py` there).

    Attributes:
        bn_momentum: as the network's.
        dtype: of activations; the softmax is float32.
        bn_group_size: clips over which BatchNorm takes its training statistics; 0: all.
    """

    bn_momentum: float = 0.9
    dtype: Any = None
    bn_group_size: int = 0

    products_in_macs = True  # the published count of TSM with non-local blocks has them

    def product_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates of query · key and of weights · value.

        Args:
            shape: of the input, [B, T, H, W, C].
        """
        batch, frames, height, width, channels = shape
        pooled = frames * (height // _POOL[0]) * (width // _POOL[1])
        return 2 * batch * frames * height * width * pooled * _inner_width(channels)

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        """Adds to every position what it sees of the others.

        Raises:
            UserError: the map is too small to be pooled.
        """
        frames, *size, channels = x.shape[1:]
        if min(size) < max(_POOL):
            raise UserError(
                f"a non-local block pools maps by 2x2, and this one has {size[0]}x{size[1]} "
                "positions; use larger frames, or no non-local blocks"
            )
        rows, inner = fold_frames(x), _inner_width(channels)

        def conv(rows: Array, features: int, name: str) -> Array:
            start = uniform_as_torch(rows.shape[-1])
            return Conv(
                features,
                (1, 1),
                dtype=self.dtype,
                kernel_init=start,
                bias_init=start,
                name=name,
            )(rows)

        queries = conv(rows, inner, "theta")
        keys, values = (
            nn.max_pool(conv(rows, inner, name), _POOL, strides=_POOL) for name in ("phi", "g")
        )
        seen = attend_clip(*(unfold_frames(array, frames) for array in (queries, keys, values)))
        y = conv(fold_frames(seen), channels, "out")
        y = BatchNorm(
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            dtype=self.dtype,
            scale_init=nn.initializers.zeros,
            group_rows=self.bn_group_size * frames,
            frames=frames,
            name="out_bn",
        )(y)
        return x + unfold_frames(y, frames)


def _inner_width(channels: int) -> int:
    return max(channels // 2, 1)
