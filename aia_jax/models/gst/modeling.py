"""GST: a ResNet in whose bottlenecks some channels see a frame and others three frames.

Luo & Yuille, "Grouped Spatial-Temporal Aggregation for Efficient Action Recognition", ICCV 2019;
where the paper and the authors' code differ, the code counts.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.convolution import ClipConv, Conv
from aia_jax.models.fields import FieldError, require
from aia_jax.models.head import classify_frames, pool_maps
from aia_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from aia_jax.models.resnet.backbone import last_block, run_stages
from aia_jax.models.stages import (
    OPTIM_GROUPS,
    PARTIAL_BN_FROZEN,
    STAGE_SIZES,
    STEMS,
    check_stages,
    describe_depth,
    he_normal,
    stage_layers,
)
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.shapes import Array, Float

BETAS = (1, 2)


class GST(nn.Module):
    """A ResNet over the frames of a clip, whose 3x3 convolutions are split into two groups.

    1/alpha of a 3x3 convolution's outputs come from a 3x3x3 convolution, which sees the frames
    before and after; the others from a 3x3 convolution of each frame. With beta=2 the latter sees
    the first half of the inputs and the former the second half; with beta=1 (the paper's GST-Large)
    both see all of them.

    Attributes:
        num_classes: K of the logits [B, K].
        num_frames: T that the recipe trains with; nothing in the variables depends on it.
        depth: 50 or 101: the ResNet whose stages are used if `stage_sizes` is ().
        alpha: 1/alpha of the outputs are temporal.
        beta: each group sees 1/beta of the inputs; 1 or 2.
        dropout: rate before the head.
        width: channels of the first stage's 3x3 convolutions; ResNet's is 64. It doubles with every
            stage.
        stage_sizes: bottlenecks of each stage; () takes those of `depth`.
        stem: "imagenet": 7x7, stride 2, and a max-pool, stride 2; "small": 3x3, stride 1, without a
            max-pool, for frames of a few dozen pixels.
        bn_momentum, dtype, partial_bn, bn_group_size, remat: as in `ResNet`.
    """

    num_classes: int
    num_frames: int = 8
    depth: int = 50
    alpha: int = 4
    beta: int = 2
    dropout: float = 0.3
    width: int = 64
    stage_sizes: tuple[int, ...] = ()
    stem: str = "imagenet"
    bn_momentum: float = 0.9
    dtype: Any = jnp.float32
    partial_bn: bool = False
    bn_group_size: int = 0
    remat: tuple[int, ...] = ()

    mean = IMAGENET_MEAN
    std = IMAGENET_STD
    segment_frames = 1
    optim_groups = OPTIM_GROUPS
    partial_bn_frozen = PARTIAL_BN_FROZEN

    @property
    def stages(self) -> tuple[int, ...]:
        """Bottlenecks of each stage."""
        return self.stage_sizes or STAGE_SIZES[self.depth]

    @property
    def layer_paths(self) -> tuple[str, ...]:
        """The layers of layer-wise decay, a bottleneck each, from the input to the head."""
        return stage_layers(self.stages)

    @property
    def cam_layer(self) -> str:
        """The last block, whose output is the map of `features`."""
        return last_block(self.stages)

    def check(self) -> None:
        """Checks every field, alone and with the others.

        Raises:
            FieldError: for the first value with which there is no network.
        """
        check_stages(self)
        require(self.stem in STEMS, "stem", self.stem, " or ".join(STEMS))
        require(self.alpha >= 2, "alpha", self.alpha, "at least 2, for both groups to have outputs")
        require(self.beta in BETAS, "beta", self.beta, " or ".join(map(str, BETAS)))
        for field in ("alpha", "beta"):
            if self.width % getattr(self, field):
                raise FieldError(
                    field,
                    f"found {getattr(self, field)}, expected a divisor of the {self.width} "
                    "channels of the first stage (width)",
                )

    def describe(self) -> str:
        """Names the network for people: "GST, ResNet-50"."""
        usual = (self.alpha, self.beta) == (4, 2)
        split = "" if usual else f" with alpha {self.alpha} and beta {self.beta}"
        return f"GST{split}, {describe_depth(self)}"

    def variants(self) -> list[dict[str, Any]]:
        """The paper's GST and GST-Large."""
        return [{"alpha": 4, "beta": 2}, {"alpha": 4, "beta": 1}]

    def __call__(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b k"]:
        """Classifies clips.

        Args:
            clips: normalised frames, [B, T, H, W, 3], any float dtype, any T, H and W.
            train: batch statistics and dropout; needs `rngs={"dropout": key}` and
                `mutable=["batch_stats"]`.

        Returns:
            Logits [B, num_classes], float32 (float64 if `dtype` is): the mean over frames.
        """
        return self._run(clips, train, head=True)

    def features(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b t h2 w2 c"]:
        """Computes the last feature map, [B, T, H, W, C], of type `dtype`, as `ResNet.features`."""
        return self._run(clips, train, head=False)

    def embed(self, clips: Float[Array, "b t h w 3"], train: bool = False) -> Float[Array, "b t c"]:
        """Computes what dropout and head see of each frame: the map's mean over H and W."""
        return pool_maps(self.features(clips, train))

    @nn.compact
    def _run(self, clips: Array, train: bool, head: bool) -> Array:
        """Computes the last feature map, and with `head` the logits."""
        middle = functools.partial(split_convolution, alpha=self.alpha, beta=self.beta)
        x = run_stages(self, clips, train, lambda *_: {"middle": middle})
        if not head:
            return x
        return classify_frames(pool_maps(x), self.num_classes, self.dropout, train)


def split_convolution(
    rows: Array, width: int, stride: int, frames: int, dtype: Any, *, alpha: int, beta: int
) -> Array:
    """The middle of GST's bottleneck: the variables `conv2` and `temporal_conv2`.

    Args:
        rows, width, stride, frames, dtype: as `Middle` has them.
        alpha, beta: of the network.
    """
    temporal = width // alpha
    options = {"padding": 1, "use_bias": False, "dtype": dtype, "kernel_init": he_normal}
    first, last = rows[..., : width // beta], rows[..., width - width // beta :]
    spatial = Conv(width - temporal, (3, 3), stride, name="conv2", **options)(first)
    strides = (1, stride, stride)
    clips = ClipConv(temporal, (3, 3, 3), strides, name="temporal_conv2", **options)(
        unfold_frames(last, frames)
    )
    return jnp.concatenate([spatial, fold_frames(clips)], -1)
