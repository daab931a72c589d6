"""The stem and the stages of bottlenecks, which several networks run with other blocks."""

from collections.abc import Callable, Sequence
from typing import Any

from aia_jax.models.resnet.bottleneck import Bottleneck, RematBottleneck
from aia_jax.models.resnet.stem import Stem
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.shapes import Array


def run_stages(
    model: Any, clips: Array, train: bool, block_fields: Callable[[int, int], dict[str, Any]]
) -> Array:
    """Runs a network's stem and stages on clips; call it within a compact method.

    Its variables are the caller's `stem` and `stageS_blockB`, S from 1 and B from 0.

    Args:
        model: has the fields that `check_stages` checks, and `stem`, `stages`, `dtype`,
            `bn_momentum` and `partial_bn`. Those of `ResNet` explain them.
        clips: normalised frames, [B, T, H, W, 3].
        train: whether BatchNorm takes the batch's statistics.
        block_fields: from the numbers of a stage and of a block in it, both from 0: the fields of
            `Bottleneck` that only this network sets.

    Returns:
        The last feature map, [B, T, H, W, C].
    """
    frames = clips.shape[1]
    x = fold_frames(clips.astype(model.dtype))  # [B·T, H, W, 3]
    x = Stem(
        model.width,
        model.stem,
        model.bn_momentum,
        model.dtype,
        model.bn_group_size,
        frames,
        name="stem",
    )(x, train)
    return run_blocks(model, unfold_frames(x, frames), train, block_fields)


def run_blocks(
    model: Any, x: Array, train: bool, block_fields: Callable[[int, int], dict[str, Any]]
) -> Array:
    """Does what `run_stages` does behind the stem, whose map x, [B, T, H, W, C], it takes."""
    for stage, blocks in enumerate(model.stages):
        remat = train and stage + 1 in model.remat
        bottleneck = RematBottleneck if remat else Bottleneck
        for block in range(blocks):
            x = bottleneck(
                width=model.width * 2**stage,
                stride=2 if block == 0 and stage > 0 else 1,
                bn_momentum=model.bn_momentum,
                dtype=model.dtype,
                frozen_bn=model.partial_bn,
                bn_group_size=model.bn_group_size,
                name=f"stage{stage + 1}_block{block}",
                **block_fields(stage, block),
            )(x, train)
    return x


def last_block(stages: Sequence[int]) -> str:
    """The name of the block whose output is the last feature map."""
    return f"stage{len(stages)}_block{stages[-1] - 1}"
