"""A ResNet over the frames of a clip, with temporal shift and attention in its blocks, and a
consensus over frames.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.attention.aia import NONE, parse
from aia_jax.models.batch_norm import BatchNorm
from aia_jax.models.resnet.bottleneck import STAGE_SIZES, Bottleneck, carries_temporal, he_normal
from aia_jax.shapes import Array, Float

TEMPORALS = ("tsn", "tsm")
STEMS = ("imagenet", "small")
_REMADE = nn.remat(Bottleneck, static_argnums=2)  # argument 2 is `train`


class VideoNet(nn.Module):
    """The network of `create_model`, which explains the fields.

    Attributes:
        partial_bn: in training too, the backbone's BatchNorm uses its running statistics and leaves
            them as they are, but for the first one (TSN's partial BatchNorm, Wang et al. 2016). The
            gates' BatchNorm is not concerned.
        bn_group_size: in training, BatchNorm takes its statistics over groups of so many clips, in
            the batch's order; 0: over all clips.
        remat: stages (from 1) whose activations are not kept for the gradient but computed again.
    """

    num_classes: int
    num_frames: int = 8
    stage_sizes: tuple[int, ...] = STAGE_SIZES[50]
    width: int = 64
    stem: str = "imagenet"
    temporal: str = "tsn"
    attention: str = NONE
    fold_div: int = 8
    dropout: float = 0.5
    bn_momentum: float = 0.9
    dtype: Any = jnp.float32
    partial_bn: bool = False
    bn_group_size: int = 0
    remat: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b k"]:
        """Classifies clips.

        Args:
            clips: normalised frames, [B, T, H, W, 3], any float dtype, any T, H and W.
            train: batch statistics and dropout; needs `rngs={"dropout": key}` and
                `mutable=["batch_stats"]`.

        Returns:
            Logits [B, num_classes], float32 (float64 if `dtype` is): the mean over frames, as TSN's
            consensus.
        """
        wide = jnp.promote_types(self.dtype, jnp.float32)
        batch, frames = clips.shape[:2]
        x = clips.astype(self.dtype).reshape(batch * frames, *clips.shape[2:])  # [B·T, H, W, 3]
        x = Stem(
            self.width,
            self.stem,
            self.bn_momentum,
            self.dtype,
            self.bn_group_size * frames,
            name="stem",
        )(x, train)
        x = x.reshape(batch, frames, *x.shape[1:])  # [B, T, H, W, C]

        for stage, blocks in enumerate(self.stage_sizes):
            bottleneck = _REMADE if train and stage + 1 in self.remat else Bottleneck
            for block in range(blocks):
                carries = carries_temporal(block, blocks)
                x = bottleneck(
                    width=self.width * 2**stage,
                    stride=2 if block == 0 and stage > 0 else 1,
                    temporal=self.temporal if carries else "tsn",
                    attention=self.attention if carries else NONE,
                    fold_div=self.fold_div,
                    bn_momentum=self.bn_momentum,
                    dtype=self.dtype,
                    frozen_bn=self.partial_bn,
                    bn_group_size=self.bn_group_size,
                    name=f"stage{stage + 1}_block{block}",
                )(x, train)

        x = x.astype(wide).mean((2, 3))  # [B, T, C]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = nn.Dense(
            self.num_classes, dtype=wide, kernel_init=nn.initializers.normal(0.001), name="head"
        )(x)
        return logits.mean(1)  # [B, num_classes]


class Stem(nn.Module):
    """ImageNet's 7x7 convolution and max-pool (stride 4 in all), or a 3x3 convolution for frames of
    a few dozen pixels (stride 1).
    """

    width: int
    kind: str
    bn_momentum: float
    dtype: Any
    bn_group_rows: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w 3"], train: bool) -> Float[Array, "n h2 w2 c"]:
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        conv = nn.Conv(
            self.width,
            (size, size),
            stride,
            padding=size // 2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=he_normal,
            name="conv",
        )
        norm = BatchNorm(
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=1e-5,
            dtype=self.dtype,
            group_rows=self.bn_group_rows,
            name="bn",
        )
        x = nn.relu(norm(conv(x)))
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.kind == "imagenet" else x


def create_model(
    num_classes: int,
    num_frames: int = 8,
    *,
    depth: int = 50,
    temporal: str = "tsn",
    attention: str = NONE,
    dropout: float = 0.5,
    dtype: Any = jnp.float32,
    stem: str = "imagenet",
    width: int = 64,
    stage_sizes: tuple[int, ...] = (),
    fold_div: int = 8,
    bn_momentum: float = 0.9,
) -> VideoNet:
    """Builds the network of a recipe.

    Args:
        num_classes: K of the logits [B, K].
        num_frames: T that the recipe trains with. Nothing in the variables depends on it: clips of
            another T are fine.
        depth: 50 or 101, the ResNet whose stages are used.
        temporal: "tsn" (frames meet in the consensus only) or "tsm" (and in the blocks' temporal
            shift).
        attention: "none", or an expression: "C", "ST", "CinST", "STinC", joined by "->" (one after
            another) and "+" (averaged).
        dropout: rate before the head.
        dtype: of activations. Parameters, batch statistics and logits stay float32.
        stem: "imagenet", or "small" for frames of a few dozen pixels.
        width: channels of the first stage's bottlenecks; ResNet's is 64.
        stage_sizes: blocks a stage; overrides `depth`.
        fold_div: the temporal shift moves 1/fold_div of the channels each way.
        bn_momentum: share of the old running statistics kept at a step (torch's momentum 0.1 is 0.9
            here).

    Raises:
        ValueError: for a value that no network has, naming the ones there are.
    """
    parse(attention)
    if temporal not in TEMPORALS:
        raise ValueError(f"temporal={temporal!r} is unknown; use one of {', '.join(TEMPORALS)}")
    if stem not in STEMS:
        raise ValueError(f"stem={stem!r} is unknown; use one of {', '.join(STEMS)}")
    if not stage_sizes and depth not in STAGE_SIZES:
        raise ValueError(
            f"depth={depth} is unknown; use one of {', '.join(map(str, STAGE_SIZES))}, or give "
            "stage_sizes"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: a classifier needs at least one class")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} is a rate from 0 up to, not including, 1")
    return VideoNet(
        num_classes=num_classes,
        num_frames=num_frames,
        stage_sizes=tuple(stage_sizes) or STAGE_SIZES[depth],
        width=width,
        stem=stem,
        temporal=temporal,
        attention=attention,
        fold_div=fold_div,
        dropout=dropout,
        bn_momentum=bn_momentum,
        dtype=dtype,
    )
