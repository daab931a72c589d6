"""C3D, as papers on GST and AIA call it: a ResNet whose 3x3 convolutions are 3x3x3.

The name is that of the network of Tran et al. 2015; the papers' baseline is a 3-D ResNet-50. No
author released its code. What GST's paper prints for 8 frames (Luo & Yuille 2019: 46.5 million
parameters, 62.6 G operations) leaves little open: a ResNet-50 whose 16 3x3 convolutions are 3x3x3
has 46.499 million and 62.3 G multiply-accumulates. So no other convolution sees several frames, and
all frames stay to the end.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.convolution import ClipConv
from aia_jax.models.fields import require
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


class C3D(nn.Module):
    """A ResNet over clips, whose bottlenecks see a frame and both of its neighbours.

    Attributes:
        num_classes: K of the logits [B, K].
        num_frames: T that the recipe trains with; nothing in the variables depends on it.
        depth: 50 or 101: the ResNet whose stages are used if `stage_sizes` is ().
        dropout: rate before the head.
        width: channels of the first stage's 3x3x3 convolutions; ResNet's is 64. It doubles with
            every stage.
        stage_sizes: bottlenecks of each stage; () takes those of `depth`.
        stem: "imagenet": 7x7, stride 2, and a max-pool, stride 2; "small": 3x3, stride 1, without a
            max-pool, for frames of a few dozen pixels.
        bn_momentum, dtype, partial_bn, bn_group_size, remat: as in `ResNet`.
    """

    num_classes: int
    num_frames: int = 8
    depth: int = 50
    dropout: float = 0.5
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

    def describe(self) -> str:
        """Names the network for people: "C3D, ResNet-50"."""
        return f"C3D, {describe_depth(self)}"

    def variants(self) -> list[dict[str, Any]]:
        """The papers' depth, and the other one."""
        return [{"depth": depth} for depth in STAGE_SIZES]

    def __call__(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b k"]:
        """Classifies clips.

        Args:
            clips: normalised frames, [B, T, H, W, 3], any float dtype, any T, H and W.
            train: batch statistics and dropout; needs `rngs={"dropout": key}` and
                `mutable=["batch_stats"]`.

        Returns:
            Logits [B, num_classes], float32 (float64 if `dtype` is): the mean over frames, which
            is the logits of the mean over T, H and W.
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
        x = run_stages(self, clips, train, lambda *_: {"middle": convolve_in_3d})
        if not head:
            return x
        return classify_frames(pool_maps(x), self.num_classes, self.dropout, train)


def convolve_in_3d(rows: Array, width: int, stride: int, frames: int, dtype: Any) -> Array:
    """The middle of C3D's bottleneck: a 3x3x3 convolution, the variable `conv2`.

    Args:
        rows, width, stride, frames, dtype: as `Middle` has them.
    """
    conv = ClipConv(
        width,
        (3, 3, 3),
        strides=(1, stride, stride),
        padding=1,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal,
        name="conv2",
    )
    return fold_frames(conv(unfold_frames(rows, frames)))
