"""What a state dict says about the shift: nothing. ViT, TokShift and MSCA have the same keys."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn

from aia_jax.errors import UserError

# Fields that change what a network computes and not the shape of any variable.
SHAPELESS_FIELDS = ("shift", "shift_div")


def shown_fields(keys: Iterable[str]) -> dict[str, Any]:
    """No key shows a field that shapes do not: ViT, TokShift and MSCA have the same keys."""
    del keys
    return {}


def contradiction(keys: Iterable[str], model: nn.Module) -> str | None:
    """None: keys show no other network of these shapes."""
    del keys, model
    return None


def compare_start(fields: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Compares the shift that weights were trained with with that of the network they start.

    Args:
        fields: of the source's network, as far as they are known; {} for a public ViT, which has no
            shift and that all networks here start from.
        model: starts from the weights.

    Returns:
        A note where the shift is another one: that of this run counts.

    Raises:
        UserError: the shift is the same and moves another share.
    """
    shift = fields.get("shift", model.shift)
    if shift != model.shift:
        return [
            f"the weights were trained with model.shift={shift}; this run's is {model.shift}, "
            "which counts: no array shows the shift"
        ]
    theirs = model.clone(shift_div=fields.get("shift_div", model.shift_div))
    if shift != "none" and theirs.share != model.share:
        raise UserError(
            f"the weights were trained with model.shift_div={theirs.share}, this run has "
            f"{model.share}: model.shift={shift} would move other {_moved(shift)}; add "
            f"--config.model.shift_div={theirs.share}"
        )
    return []


def _moved(shift: str) -> str:
    return "channels" if shift == "token" else "heads"
