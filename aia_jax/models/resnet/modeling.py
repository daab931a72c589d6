"""A ResNet over the frames of a clip: TSN, TSM, and both with attention in their bottlenecks.

ResNet: He et al. 2016, as torchvision has it. TSN: Wang et al. 2016, every frame for itself and the
mean of their logits. TSM: Lin et al. 2019, a temporal shift at the start of every bottleneck. AIA:
Hao et al. 2022, gates inside every bottleneck. Non-local blocks: Wang et al. 2018.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.attention import MODULES
from aia_jax.models.attention.expression import site_of
from aia_jax.models.fields import FieldError, require
from aia_jax.models.head import classify_frames, pool_maps
from aia_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from aia_jax.models.resnet.backbone import last_block, run_stages
from aia_jax.models.resnet.placement import (
    SHIFT_RULES,
    has_attention,
    has_non_local,
    has_shift,
    same_shift,
)
from aia_jax.models.stages import (
    OPTIM_GROUPS,
    PARTIAL_BN_FROZEN,
    STAGE_SIZES,
    STEMS,
    check_stages,
    describe_depth,
    stage_layers,
)
from aia_jax.shapes import Array, Float

TEMPORALS = ("tsn", "tsm")

# The paper's networks: without attention, and the combinations of its tables.
PAPER_ATTENTIONS = (
    "none", "C", "ST", "C->ST", "ST->C", "C+ST", "CinST", "STinC",
    "CinST->STinC", "STinC->CinST", "CinST+STinC",
)  # fmt: skip


class ResNet(nn.Module):
    """A ResNet of bottlenecks over the frames of a clip.

    Attributes:
        num_classes: K of the logits [B, K].
        num_frames: T that the recipe trains with; nothing in the variables depends on it.
        depth: 50 or 101: the ResNet whose stages are used if `stage_sizes` is ().
        temporal: "tsn": frames meet in the mean of their logits only; "tsm": also in a temporal
            shift in every bottleneck.
        attention: "none", or an expression such as "CinST->STinC" (aia_jax.models.attention).
        dropout: rate before the head.
        width: channels of the first stage's 3x3 convolutions; ResNet's is 64. It doubles with every
            stage.
        stage_sizes: bottlenecks of each stage; () takes those of `depth`.
        stem: "imagenet": 7x7, stride 2, and a max-pool, stride 2; "small": 3x3, stride 1, without a
            max-pool, for frames of a few dozen pixels.
        fold_div: the temporal shift moves 1/fold_div of the channels each way.
        shift_blocks: the rule by which a network with a stage of 23 bottlenecks or more shifts only
            some: "aia" or "tsm" (`placement.has_shift`). A shorter network shifts in all of them.
        non_local: non-local blocks behind bottlenecks of the second and third stage, as in TSM's
            released code (`placement.has_non_local`).
        bn_momentum: share of the old running statistics that stays at a step (torch's momentum 0.1
            is 0.9 here).
        dtype: of activations. Parameters, batch statistics and logits stay float32.
        partial_bn: in training too, the backbone's BatchNorm normalises by its running statistics
            and does not update them, except the first one (TSN's partial BatchNorm, Wang et al.
            2016). The BatchNorm of attention is not affected.
        bn_group_size: in training, BatchNorm takes its statistics over groups of this many clips,
            in the batch's order; 0: over all clips.
        remat: stages (from 1) whose activations are computed again for the gradient instead of
            stored.
    """

    num_classes: int
    num_frames: int = 8
    depth: int = 50
    temporal: str = "tsn"
    attention: str = "none"
    dropout: float = 0.5
    width: int = 64
    stage_sizes: tuple[int, ...] = ()
    stem: str = "imagenet"
    fold_div: int = 8
    shift_blocks: str = "aia"
    non_local: bool = False
    bn_momentum: float = 0.9
    dtype: Any = jnp.float32
    partial_bn: bool = False
    bn_group_size: int = 0
    remat: tuple[int, ...] = ()

    # Mean and standard deviation of the RGB pixels that it takes, on the scale from 0 to 1.
    mean = IMAGENET_MEAN
    std = IMAGENET_STD
    segment_frames = 1

    optim_groups = OPTIM_GROUPS

    # The BatchNorm of gates and of non-local blocks is trained too, as in the references, whose
    # `partialBN` looks for 2-D layers and finds no 3-D ones. It must be trained: new modules start
    # with mean 0 and variance 1, which no data gave.
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
        require(self.fold_div >= 2, "fold_div", self.fold_div, "at least 2")
        require(self.temporal in TEMPORALS, "temporal", self.temporal, " or ".join(TEMPORALS))
        require(self.stem in STEMS, "stem", self.stem, " or ".join(STEMS))
        if self.non_local and len(self.stages) < 2:
            raise FieldError(
                "non_local", "found True, expected False in a network without a second stage"
            )
        rules = " or ".join(SHIFT_RULES)
        require(self.shift_blocks in SHIFT_RULES, "shift_blocks", self.shift_blocks, rules)
        try:
            site_of(self.attention)
        except ValueError as error:
            problem = str(error).removeprefix(f"attention={self.attention!r}: ")
            raise FieldError("attention", f"found {self.attention!r}: {problem}") from error
        if self.temporal == "tsm" and self.width < self.fold_div:
            raise FieldError(
                "fold_div",
                f"{self.fold_div} leaves nothing to shift in {self.width} channels (width); use at "
                f"most {self.width}",
            )

    def describe(self) -> str:
        """Names the network for people: "TSM with CinST->STinC, ResNet-50"."""
        usual = self.temporal == "tsn" or same_shift(self.stages, self.shift_blocks, "aia")
        temporal = self.temporal.upper() + ("" if usual else " (a shift in every other block)")
        parts = [] if self.attention == "none" else [self.attention]
        parts += ["non-local blocks"] if self.non_local else []
        extras = f" with {' and '.join(parts)}" if parts else ""
        return f"{temporal}{extras}, {describe_depth(self)}"

    def variants(self) -> list[dict[str, Any]]:
        """The AIA paper's networks with this backbone, and TSM with non-local blocks if it can be.

        They are given as the fields in which they differ.
        """
        plug_ins = [name for name in MODULES if name not in PAPER_ATTENTIONS]
        pairs = [("tsn", attention) for attention in (*PAPER_ATTENTIONS, *plug_ins)]
        pairs += [("tsm", attention) for attention in PAPER_ATTENTIONS]
        networks = [(*pair, False) for pair in pairs]
        networks += [("tsm", "none", True)] * (len(self.stages) > 1)
        return [
            dict(zip(("temporal", "attention", "non_local"), fields, strict=True))
            for fields in networks
        ]

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
        return self._run(clips, train, head=True)

    def features(
        self, clips: Float[Array, "b t h w 3"], train: bool = False
    ) -> Float[Array, "b t h2 w2 c"]:
        """Computes the last feature map, [B, T, H, W, C], of type `dtype`.

        With the stem "imagenet" and four stages, H and W are 1/32 of the clip's. The head turns the
        map's mean over H and W into logits, whose mean over T is the result of `__call__`. Call it
        as `model.apply(variables, clips, method="features")`; the arguments are those of
        `__call__`, but `train` needs no dropout key.
        """
        return self._run(clips, train, head=False)

    def embed(self, clips: Float[Array, "b t h w 3"], train: bool = False) -> Float[Array, "b t c"]:
        """Computes what dropout and head see of each frame: the map's mean over H and W.

        It is float32 (float64 if `dtype` is). The arguments are those of `features`.
        """
        return pool_maps(self.features(clips, train))

    @nn.compact
    def _run(self, clips: Array, train: bool, head: bool) -> Array:
        """Computes the last feature map, and with `head` the logits.

        Linen allows one compact method a module, so both public methods call this one.
        """
        x = run_stages(self, clips, train, self._block_fields)
        if not head:
            return x

        return classify_frames(pool_maps(x), self.num_classes, self.dropout, train)

    def _block_fields(self, stage: int, block: int) -> dict[str, Any]:
        """What a bottleneck of this network has besides its size."""
        shifted = has_shift(self.stages, stage, block, self.shift_blocks)
        attentive = has_attention(self.stages, stage, block)
        return {
            "temporal": self.temporal if shifted else "tsn",
            "attention": self.attention if attentive else "none",
            "fold_div": self.fold_div,
            "non_local": self.non_local and has_non_local(stage, block),
        }
