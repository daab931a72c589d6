"""A ViT over the frames of a clip: frame-wise, TokShift, and MSCA.

ViT: Dosovitskiy et al. 2021. Every frame is cut into patches that attend to one another and to a
class token; a clip's logits are the mean of its frames'. TokShift (Zhang et al. 2021) and MSCA
(Hashiguchi & Tamaki 2022) shift parts of the features by a frame, so that frames meet. No shift
adds a parameter or a product: all networks of a size have the same variables.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from aia_jax.errors import UserError
from aia_jax.models.convolution import Conv
from aia_jax.models.fields import FieldError, require
from aia_jax.models.head import classify_frames
from aia_jax.models.vit.layer import Layer, RematLayer, torch_uniform, torch_uniform_bias
from aia_jax.models.vit.shift import SHIFTS, check_shift, default_share
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.shapes import Array, Float


class Size(NamedTuple):
    """The sizes of a ViT: channels, layers, heads, and channels within the MLP."""

    width: int
    layers: int
    heads: int
    mlp_dim: int


_IMAGE_SIZE = (224, 224)

SIZES = {"B": Size(768, 12, 12, 3072), "L": Size(1024, 24, 16, 4096)}


class ViT(nn.Module):
    """A ViT over the frames of a clip.

    Attributes:
        num_classes: K of the logits [B, K].
        num_frames: T that the recipe trains with; nothing in the variables depends on it.
        size: "B" or "L": Base or Large; "": `width`, `layers`, `heads` and `mlp_dim` say it.
        width: channels of a token; 0: those of `size`.
        layers: 0: those of `size`.
        heads: of the attention; 0: those of `size`.
        mlp_dim: channels between the two linear layers of the MLP; 0: those of `size`.
        patch: height and width of a patch.
        image_size: height and width of the frames, which the position embedding is for. One number
            stands for a square; () for the default.
        shift: "none": frames meet in the mean of their logits only; "token": TokShift; "Q", "K",
            "V" or letters together: MSCA, the projections whose heads come from other frames.
        shift_div: the share that moves each way is 1/shift_div, of the class token's channels
            ("token") or of the heads. 0: the papers': 4 for "token", and as many as there are
            heads for MSCA, so that one head moves each way.
        dropout: rate before the head.
        dtype: of activations. Parameters, softmax and logits stay float32.
        remat: layers, by their number from 0, whose activations are computed again for the
            gradient instead of stored.
    """

    num_classes: int
    num_frames: int = 8
    size: str = "B"
    width: int = 0
    layers: int = 0
    heads: int = 0
    mlp_dim: int = 0
    patch: int = 16
    image_size: int | tuple[int, ...] = _IMAGE_SIZE
    shift: str = "none"
    shift_div: int = 0
    dropout: float = 0.0
    dtype: Any = jnp.float32
    remat: tuple[int, ...] = ()

    # Mean and standard deviation of the RGB pixels that it takes, on the scale from 0 to 1.
    mean = np.full(3, 0.5, np.float32)
    std = np.full(3, 0.5, np.float32)

    segment_frames = 1
    # The authors' optimiser has one group. Their recipe's weight decay is 0.
    optim_groups = ((".*", {"lr": 1.0, "decay": 1.0}),)

    def __post_init__(self) -> None:
        """Makes `image_size` a height and a width."""
        size = self.image_size
        size = size if isinstance(size, tuple) else (size,)
        self.image_size = {0: _IMAGE_SIZE, 1: size * 2}.get(len(size), size)
        super().__post_init__()

    @property
    def sizes(self) -> Size:
        """The network's sizes: those of `size`, but for the fields that are not 0."""
        defaults = SIZES.get(self.size, Size(0, 0, 0, 0))
        return Size(
            *(getattr(self, name) or default for name, default in defaults._asdict().items())
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.image_size
        return height // self.patch, width // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of a frame: the class token and the patches."""
        return 1 + self.grid[0] * self.grid[1]

    @property
    def share(self) -> int:
        """The shift moves one of so many channels or heads each way."""
        return self.shift_div or default_share(self.shift, self.sizes.heads)

    @property
    def written_out(self) -> "ViT":
        """The same network, with the values that `size` and `shift_div=0` stand for."""
        return self.clone(size="", shift_div=self.share, **self.sizes._asdict())

    @property
    def layer_paths(self) -> tuple[str, ...]:
        """The layers of layer-wise decay, as in BEiT: the embeddings first, the head last."""
        layers = [f"layer{number}/.*" for number in range(self.sizes.layers)]
        start = "class_token|position_embedding|patch_embedding/.*"
        return start, *layers, "(norm|head)/.*"

    @property
    def cam_layer(self) -> str:
        """The last attention's LayerNorm: the head reads no patch token that comes after it."""
        return f"layer{self.sizes.layers - 1}/norm1"

    @nn.nowrap  # Grad-CAM calls it while it intercepts the calls of modules
    def frame_map(self, output: Array, clips: tuple[int, ...]) -> Array | None:
        """The patch tokens of a module's output as a map [B, T, H/patch, W/patch, C].

        Args:
            output: tokens [B·T, 1 + N, C] or a map [B·T, H/patch, W/patch, C]; or else: None.
            clips: the shape of the network's clips.
        """
        batch, frames = clips[:2]
        if output.shape[:-1] == (batch * frames, self.tokens):
            output = output[:, 1:]
        elif output.shape[:-1] != (batch * frames, *self.grid):
            return None
        return output.reshape(batch, frames, *self.grid, -1)

    def check(self) -> None:
        """Checks every field, alone and with the others.

        Raises:
            FieldError: for the first value with which there is no network.
        """
        require(self.size in ("", *SIZES), "size", self.size, f"{' or '.join(SIZES)}, or nothing")
        for name, limit in Size(2**16, 1000, 2**16, 2**18)._asdict().items():
            value = getattr(self.sizes, name)
            missing = f" (size={self.size!r} sets none)" if not value else ""
            require(
                1 <= value <= limit, name, value, f"a whole number from 1 to {limit:,}{missing}"
            )
        width, heads = self.sizes.width, self.sizes.heads
        if width % heads:
            raise FieldError(
                "heads", f"{heads} heads cannot share {width} channels (width) equally"
            )
        require(self.patch >= 1, "patch", self.patch, "at least 1")
        self._check_image_size()
        check_shift(self.shift, self.share, heads, width)
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 up to, not including, 1")
        last = self.sizes.layers - 1
        fits = all(layer in range(last + 1) for layer in self.remat)
        require(fits, "remat", self.remat, f"layers from 0 to {last}")

    def _check_image_size(self) -> None:
        size = self.image_size
        require(len(size) == 2, "image_size", size, "one number, or a height and a width")
        fits = all(side >= self.patch and side % self.patch == 0 for side in size)
        require(fits, "image_size", size, f"multiples of the patch's {self.patch} pixels (patch)")

    def describe(self) -> str:
        """Names the network for people: "MSCA-KV, ViT-B/16"."""
        temporal = f"{SHIFTS[self.shift]}, " if SHIFTS[self.shift] else ""
        if self.sizes == SIZES.get(self.size):
            return f"{temporal}ViT-{self.size}/{self.patch}"
        width, layers, heads, _ = self.sizes
        return (
            f"{temporal}ViT of {layers} layers, {width} channels and {heads} heads, patches of "
            f"{self.patch}"
        )

    def variants(self) -> list[dict[str, Any]]:
        """The papers' networks of this size, as the field in which they differ."""
        return [{"shift": shift} for shift in SHIFTS]

    def __call__(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b k"]:
        """Classifies clips.

        Args:
            clips: normalised frames, [B, T, H, W, 3], any float dtype, any T; H and W are those of
                `image_size`.
            train: dropout; needs `rngs={"dropout": key}` if its rate is not 0.

        Returns:
            Logits [B, num_classes], float32 (float64 if `dtype` is): the mean over frames of the
            logits of the class tokens.

        Raises:
            UserError: for frames of another size than `image_size`.
        """
        return self._run(clips, train, head=True)

    def features(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b t h2 w2 c"]:
        """Computes the patch tokens after the last LayerNorm as a map, [B, T, H/patch, W/patch, C].

        They are of type `dtype`. Arguments and errors are those of `__call__`.
        """
        tokens = self._run(clips, train, head=False)
        return tokens[:, :, 1:].reshape(*tokens.shape[:2], *self.grid, -1)

    def embed(self, clips: Float[Array, "b t h w 3"], train: bool = False) -> Float[Array, "b t c"]:
        """Computes what the head sees, the class tokens after the last LayerNorm, [B, T, C].

        They are float32 (float64 if `dtype` is). Arguments and errors are those of `__call__`.
        """
        return _at_least_float32(self._run(clips, train, head=False)[:, :, 0])

    @nn.compact
    def _run(self, clips: Array, train: bool, head: bool) -> Array:
        """Computes the tokens after the last LayerNorm, [B, T, 1 + N, C], or with `head` logits.

        Linen allows one compact method a module, so the public methods call this one.
        """
        self._check_clips(clips)
        width, layers, heads, mlp_dim = self.sizes
        frames = clips.shape[1]

        x = fold_frames(clips.astype(self.dtype))  # [B·T, H, W, 3]
        x = Conv(
            width,
            (self.patch, self.patch),
            strides=self.patch,
            padding="VALID",
            dtype=self.dtype,
            kernel_init=torch_uniform,
            bias_init=torch_uniform_bias(3 * self.patch**2),
            name="patch_embedding",
        )(x)
        x = x.reshape(x.shape[0], -1, width)
        token = self.param("class_token", nn.initializers.zeros, (1, 1, width))
        positions = self.param("position_embedding", nn.initializers.zeros, (1, self.tokens, width))
        token = jnp.broadcast_to(token, (x.shape[0], 1, width)).astype(self.dtype)
        x = jnp.concatenate([token, x], 1)
        x = (x + positions).astype(self.dtype)  # [B·T, 1 + N, C]

        for number in range(layers):
            layer = RematLayer if train and number in self.remat else Layer
            x = layer(
                heads,
                mlp_dim,
                self.shift,
                self.share,
                frames,
                self.dtype,
                name=f"layer{number}",
            )(x)
        x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x)
        if not head:
            return unfold_frames(x, frames)

        token = _at_least_float32(unfold_frames(x[:, 0], frames))  # [B, T, C]
        # The authors start from a head of zeros.
        zeros = nn.initializers.zeros
        return classify_frames(token, self.num_classes, self.dropout, train, zeros)

    def _check_clips(self, clips: Array) -> None:
        found, expected = clips.shape[2:4], self.image_size
        if tuple(found) != expected:
            raise UserError(
                f"frames are {_pixels(found)} pixels, and model.image_size={_pixels(expected)} is "
                "what its position embedding is for; use frames of that size (data.crop, --crop), "
                f"or train with model.image_size={_pixels(found)}: a start from weights resizes "
                "their positions"
            )


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _pixels(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
