"""H2CN: a TSM over segments of five frames, with hourglass convolutions in and between segments.

Tan et al., "Hierarchical Hourglass Convolutional Network for Efficient Video Classification", ACM
Multimedia 2022; where the paper and the authors' code differ, the code counts.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.fields import require
from aia_jax.models.h2cn.gate import ClipHourglassGate
from aia_jax.models.h2cn.motion import MotionPath
from aia_jax.models.head import classify_frames, pool_maps
from aia_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from aia_jax.models.resnet.backbone import last_block, run_blocks
from aia_jax.models.resnet.stem import Stem
from aia_jax.models.segments import check_segments
from aia_jax.models.stages import STAGE_SIZES, STEMS, check_stages, stage_layers
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.ops.resize import resize_nearest
from aia_jax.shapes import Array, Float

_FOLD_DIV = 8  # of the temporal shift, as in TSM
_MIDDLE = 2  # the frame of a segment that the stem sees
_BLOCK_FIELDS = {
    "temporal": "tsm",
    "fold_div": _FOLD_DIV,
    "gate": ClipHourglassGate,
    "shortcut_bias": True,
}


class H2CN(nn.Module):
    """A ResNet of bottlenecks over the segments of a clip, with shift, gates and a motion path.

    The middle frame of each segment goes through a ResNet's stem, all five through `MotionPath`;
    the mean of both is a segment's map. Every bottleneck shifts channels between segments as TSM's
    do, and after its first convolution a `ClipHourglassGate` multiplies them. The convolutions of
    stem and shortcuts have biases.

    Attributes:
        num_classes: K of the logits [B, K].
        num_frames: T, segments that the recipe trains with; no variable depends on it.
        depth: 50 or 101: the ResNet whose stages are used if `stage_sizes` is ().
        dropout: rate before the head.
        width: channels of the first stage's 3x3 convolutions; ResNet's is 64. It doubles with every
            stage.
        stage_sizes: bottlenecks of each stage; () takes those of `depth`.
        stem: "imagenet": 7x7, stride 2, and a max-pool, stride 2; "small": 3x3, stride 1, without a
            max-pool, for frames of a few dozen pixels.
        bn_momentum: share of the old running statistics that stays at a step (torch's momentum 0.1
            is 0.9 here).
        dtype: of activations. Parameters, batch statistics and logits stay float32.
        partial_bn: in training too, the BatchNorm of the bottlenecks normalises by its running
            statistics and does not update them. Those of stem, motion path and gates train as ever.
        bn_group_size: in training, BatchNorm takes its statistics over groups of this many clips,
            in the batch's order; 0: over all clips.
        remat: stages (from 1) whose activations are computed again for the gradient instead of
            stored.
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
    segment_frames = 5

    # The authors' groups: biases of convolutions and of the head learn twice as fast, and neither
    # biases nor BatchNorm decay.
    optim_groups = (
        (r".*/kernel", {"lr": 1.0, "decay": 1.0}),
        (r"(.*conv|head)/bias", {"lr": 2.0, "decay": 0.0}),
        (r".*bn\d?/(scale|bias)", {"lr": 1.0, "decay": 0.0}),
    )

    # Motion path and gates start with mean 0 and variance 1, which no data gave, so they must be
    # trained. (The authors' code would freeze them, and their recipes do not use it.)
    partial_bn_frozen = r"stage\d+_block\d+/(bn\d|shortcut_bn)/(scale|bias)"

    @property
    def stages(self) -> tuple[int, ...]:
        """Bottlenecks of each stage."""
        return self.stage_sizes or STAGE_SIZES[self.depth]

    @property
    def layer_paths(self) -> tuple[str, ...]:
        """The layers of layer-wise decay. Stem and motion path are the first: both see pixels."""
        return stage_layers(self.stages, r"(stem|motion)/.*")

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
        least = f"at least {_FOLD_DIV}, of which the temporal shift moves one each way"
        require(self.width >= _FOLD_DIV, "width", self.width, least)
        require(self.stem in STEMS, "stem", self.stem, " or ".join(STEMS))

    def describe(self) -> str:
        """Names the network for people: "H2CN, ResNet-50"."""
        blocks = "-".join(map(str, self.stage_sizes))
        return f"H2CN, ResNet{f' with stages of {blocks} blocks' if blocks else f'-{self.depth}'}"

    def variants(self) -> list[dict[str, Any]]:
        """The network with 8 and with 16 segments, as the paper's tables have it."""
        return [{"num_frames": segments} for segments in (8, 16)]

    def __call__(
        self, clips: Float[Array, "b s h w 3"], train: bool = False
    ) -> Float[Array, "b k"]:
        """Classifies clips.

        Args:
            clips: normalised frames, [B, 5·T, H, W, 3], the five consecutive frames of a segment
                one after another; any float dtype, any T, H and W.
            train: batch statistics and dropout; needs `rngs={"dropout": key}` and
                `mutable=["batch_stats"]`.

        Returns:
            Logits [B, num_classes], float32 (float64 if `dtype` is): the mean over segments.

        Raises:
            UserError: the frames make no whole segments, or a mesh would divide a segment.
        """
        return self._run(clips, train, head=True)

    def features(
        self, clips: Float[Array, "b s h w 3"], train: bool = False
    ) -> Float[Array, "b t h2 w2 c"]:
        """Computes the last feature map of each segment, [B, T, H, W, C], of type `dtype`.

        Call it as `model.apply(variables, clips, method="features")`; the arguments are those of
        `__call__`, but `train` needs no dropout key.
        """
        return self._run(clips, train, head=False)

    def embed(self, clips: Float[Array, "b s h w 3"], train: bool = False) -> Float[Array, "b t c"]:
        """Computes what dropout and head see of each segment: the map's mean over H and W.

        It is float32 (float64 if `dtype` is). The arguments are those of `features`.
        """
        return pool_maps(self.features(clips, train))

    @nn.compact
    def _run(self, clips: Array, train: bool, head: bool) -> Array:
        """Computes the last feature map, and with `head` the logits.

        Linen allows one compact method a module, so both public methods call this one.
        """
        segments = check_segments(clips.shape[1], self.segment_frames)
        x = clips.reshape(clips.shape[0], segments, self.segment_frames, *clips.shape[2:])
        x = unfold_frames(self._first_layers(x, train), segments)  # [B, T, H, W, C]
        x = run_blocks(self, x, train, lambda *_: _BLOCK_FIELDS)
        if not head:
            return x
        return classify_frames(pool_maps(x), self.num_classes, self.dropout, train)

    def _first_layers(self, x: Array, train: bool) -> Array:
        """The mean of what stem and motion path make of each segment.

        Args:
            x: [B, T, 5, H, W, 3].
            train: as for `__call__`.

        Returns:
            Rows of segments, [B·T, H, W, C].
        """
        settings = (self.width, self.stem, self.bn_momentum, self.dtype)
        groups = {"bn_group_size": self.bn_group_size}
        frames = fold_frames(x[:, :, _MIDDLE].astype(self.dtype))
        stem = Stem(*settings, **groups, frames=x.shape[1], use_bias=True, name="stem")
        y = stem(frames, train)
        motion = MotionPath(*settings, **groups, segments=x.shape[1], name="motion")
        precise = jnp.promote_types(self.dtype, jnp.float32)
        z = motion(fold_frames(x.astype(precise)), train)
        return 0.5 * y + 0.5 * resize_nearest(z, *y.shape[1:3])
