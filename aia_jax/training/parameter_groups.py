"""Factors on the learning rate and weight decay of parameters: by their group, by their layer."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from aia_jax.errors import UserError

_LISTED = 8  # parameters that an error names before it says how many more there are


@dataclasses.dataclass(frozen=True)
class Group:
    """Factors for the parameters whose whole '/'-joined path matches `pattern`.

    Attributes:
        pattern: a regular expression.
        lr: factor on the learning rate.
        decay: factor on the weight decay.
    """

    pattern: str
    lr: float = 1.0
    decay: float = 1.0


def parse_groups(groups: Iterable[Sequence[Any]]) -> tuple[Group, ...]:
    """Reads `optim.groups` of a config: `(("head/bias", {"lr": 2.0, "decay": 0.0}), …)`.

    A factor that is left out is 1.

    Raises:
        UserError: an unknown factor, or a pattern that is no regular expression.
    """
    parsed = []
    for pattern, factors in groups:
        unknown = sorted(set(factors) - {"lr", "decay"})
        if unknown:
            raise UserError(
                f"optim.groups: {pattern!r} sets {unknown[0]!r}; a group may set 'lr' and 'decay'"
            )
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(
                f"optim.groups: {pattern!r} is not a regular expression ({error})"
            ) from error
        parsed.append(Group(pattern, **{name: float(factor) for name, factor in factors.items()}))
    return tuple(parsed)


def assign_groups(params: Any, groups: Sequence[Group]) -> Any:
    """The group of every parameter: the first whose pattern matches the whole path.

    Args:
        params: a tree of arrays or of their shapes.

    Returns:
        The same tree with a `Group` in each leaf's place.

    Raises:
        UserError: a parameter that no pattern matches, or a group that gets no parameter: most
            often a misspelt pattern, whose parameters would otherwise fall to the next group
            without a word.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    chosen = [
        next((group for group in groups if re.fullmatch(group.pattern, name)), None)
        for name in names
    ]
    uncovered = [name for name, group in zip(names, chosen, strict=True) if group is None]
    if uncovered:
        more = f" and {len(uncovered) - _LISTED} more" if len(uncovered) > _LISTED else ""
        raise UserError(
            f"optim.groups covers {len(names) - len(uncovered)} of {len(names)} parameters; add a "
            f"pattern for {', '.join(uncovered[:_LISTED])}{more}"
        )
    unused = [group.pattern for group in groups if group not in chosen]
    if unused:
        raise UserError(
            f"optim.groups: no parameter is left for {unused[0]!r}; correct the pattern, move it "
            "up or remove it"
        )
    return jax.tree_util.tree_unflatten(structure, chosen)


def layer_factors(params: Any, layers: Sequence[str], decay: float) -> Any:
    """The factor on each parameter's learning rate by its layer: `decay` for each layer above it.

    Layer-wise decay (Howard & Ruder 2018, Sec. 3.2; in ViTs Bao et al. 2022): the lowest layers,
    whose features are the most general, move the least.

    Args:
        params: a tree of arrays or of their shapes.
        layers: a regular expression for the whole paths of each layer, from the input to the head
            (the network's `layer_paths`).
        decay: `optim.layer_decay`.

    Returns:
        The same tree with a number in each leaf's place, 1 in the last layer.

    Raises:
        UserError: a parameter belongs to no layer, as in a network that does not say its layers.
    """
    if decay == 1:
        return jax.tree.map(lambda _: 1.0, params)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    factors = []
    for path, _ in paths:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        above = (len(layers) - 1 - i for i, p in enumerate(layers) if re.fullmatch(p, name))
        depth = next(above, None)
        if depth is None:
            raise UserError(
                f"config key optim.layer_decay: found {decay:g}, but the network does not say to "
                f"which layer {name} belongs (`layer_paths`); set 1"
            )
        factors.append(decay**depth)
    return jax.tree_util.tree_unflatten(structure, factors)
