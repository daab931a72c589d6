"""A ResNet over the frames of a clip: TSN, TSM, and both with attention in their bottlenecks.

ResNet: He et al. 2016, as torchvision has it. TSN: Wang et al. 2016, every frame for itself and the
mean of their logits. TSM: Lin et al. 2019, a temporal shift at the start of every bottleneck. AIA:
Hao et al. 2022, gates inside every bottleneck.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.models.attention.expression import site_of
from aia_jax.models.fields import FieldError, require
from aia_jax.models.head import classify_frames
from aia_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from aia_jax.models.resnet.bottleneck import Bottleneck, RematBottleneck
from aia_jax.models.resnet.placement import SHIFT_RULES, has_attention, has_shift, same_shift
from aia_jax.models.resnet.stem import Stem
from aia_jax.models.stages import STAGE_SIZES, check_stages
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.shapes import Array, Float

TEMPORALS = ("tsn", "tsm")
STEMS = ("imagenet", "small")

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
    bn_momentum: float = 0.9
    dtype: Any = jnp.float32
    partial_bn: bool = False
    bn_group_size: int = 0
    remat: tuple[int, ...] = ()

    # Mean and standard deviation of the RGB pixels that it takes, on the scale from 0 to 1.
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    @property
    def stages(self) -> tuple[int, ...]:
        """Bottlenecks of each stage."""
        return self.stage_sizes or STAGE_SIZES[self.depth]

    def check(self) -> None:
        """Checks every field, alone and with the others.

        Raises:
            FieldError: for the first value with which there is no network.
        """
        check_stages(self)
        require(self.fold_div >= 2, "fold_div", self.fold_div, "at least 2")
        require(self.temporal in TEMPORALS, "temporal", self.temporal, " or ".join(TEMPORALS))
        require(self.stem in STEMS, "stem", self.stem, " or ".join(STEMS))
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
        attention = "" if self.attention == "none" else f" with {self.attention}"
        blocks = "-".join(map(str, self.stage_sizes))
        depth = f"ResNet with stages of {blocks} blocks" if blocks else f"ResNet-{self.depth}"
        return f"{temporal}{attention}, {depth}"

    def variants(self) -> list[dict[str, Any]]:
        """The paper's networks with this backbone, as the fields in which they differ."""
        return [
            {"temporal": temporal, "attention": attention}
            for temporal in TEMPORALS
            for attention in PAPER_ATTENTIONS
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

    @nn.compact
    def _run(self, clips: Array, train: bool, head: bool) -> Array:
        """Computes the last feature map, and with `head` the logits.

        Linen allows one compact method a module, so both public methods call this one.
        """
        frames = clips.shape[1]
        x = fold_frames(clips.astype(self.dtype))  # [B·T, H, W, 3]
        x = Stem(
            self.width,
            self.stem,
            self.bn_momentum,
            self.dtype,
            self.bn_group_size,
            frames,
            name="stem",
        )(x, train)
        x = unfold_frames(x, frames)  # [B, T, H, W, C]

        for stage, blocks in enumerate(self.stages):
            remat = train and stage + 1 in self.remat
            bottleneck = RematBottleneck if remat else Bottleneck
            for block in range(blocks):
                shifted = has_shift(self.stages, stage, block, self.shift_blocks)
                attentive = has_attention(self.stages, stage, block)
                x = bottleneck(
                    width=self.width * 2**stage,
                    stride=2 if block == 0 and stage > 0 else 1,
                    temporal=self.temporal if shifted else "tsn",
                    attention=self.attention if attentive else "none",
                    fold_div=self.fold_div,
                    bn_momentum=self.bn_momentum,
                    dtype=self.dtype,
                    frozen_bn=self.partial_bn,
                    bn_group_size=self.bn_group_size,
                    name=f"stage{stage + 1}_block{block}",
                )(x, train)
        if not head:
            return x

        x = x.astype(jnp.promote_types(self.dtype, jnp.float32)).mean((2, 3))  # [B, T, C]
        return classify_frames(x, self.num_classes, self.dropout, train)
