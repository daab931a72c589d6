"""Which bottlenecks of a ResNet have the temporal shift, the attention, a non-local block.

In a short network all have the first two. Two public rules spare some bottlenecks of a long one,
and they differ: no shape of a variable shows which rule a network was trained with.
"""

from collections.abc import Sequence

LONG_STAGE = 23  # bottlenecks of ResNet-101's third stage

# Stage, from 0 → the bottlenecks in it that a non-local block follows.
_NON_LOCAL = {1: (0, 2), 2: (0, 2, 4)}

# "aia": the AIA authors' networks. "tsm": the released code of TSM (Lin et al. 2019).
SHIFT_RULES = ("aia", "tsm")


def has_attention(stages: Sequence[int], stage: int, block: int) -> bool:
    """Whether a bottleneck has the attention.

    Every one has it, except in a stage of 23 or more: there every other one has it, from the first,
    as in the AIA authors' ResNet-101.

    Args:
        stages: bottlenecks of each stage.
        stage, block: of the bottleneck, both from 0.
    """
    return stages[stage] < LONG_STAGE or block % 2 == 0


def has_shift(stages: Sequence[int], stage: int, block: int, rule: str) -> bool:
    """Whether a bottleneck of a TSM has the temporal shift.

    Args:
        stages, stage, block: as for `has_attention`.
        rule: "aia": the bottlenecks that `has_attention` names. "tsm": every one, but every other
            one of all stages where the third stage has 23 or more.
    """
    if rule == "aia":
        return has_attention(stages, stage, block)
    return len(stages) < 3 or stages[2] < LONG_STAGE or block % 2 == 0


def same_shift(stages: Sequence[int], rule: str, other: str) -> bool:
    """Whether two rules shift the same bottlenecks of a network."""
    return all(
        has_shift(stages, stage, block, rule) == has_shift(stages, stage, block, other)
        for stage, blocks in enumerate(stages)
        for block in range(blocks)
    )


def has_non_local(stage: int, block: int) -> bool:
    """Whether a non-local block follows a bottleneck, in a network that has such blocks.

    One follows the first and third of the second stage, and the first, third and fifth of the third
    stage, as far as there are so many: five in a ResNet-50, as in TSM's released code. That code
    would cut a longer network down to a ResNet-50's stages; here the others stay as they are.

    Args:
        stage, block: of the bottleneck, both from 0.
    """
    return block in _NON_LOCAL.get(stage, ())
