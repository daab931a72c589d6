"""Which parameters a run does not train: `train.freeze`, and TSN's partial BatchNorm.

A pattern of `train.freeze` names parameters; `train.partial_bn` stands for a set of them that the
network knows.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from aia_jax.errors import UserError, describe

# A tree of parameters → the same tree with True where a parameter is frozen.
Frozen = Callable[[Any], Any]


def nothing_frozen(params: Any) -> Any:
    """The rule of a run that trains everything."""
    return jax.tree.map(lambda _: False, params)


def frozen_rule(patterns: str, partial_bn: str = "") -> Frozen:
    """Builds the rule of a run.

    Args:
        patterns: regular expressions with spaces between them, each for a parameter's whole
            '/'-joined path.
        partial_bn: a regular expression for whole paths that are frozen too, the network's
            `partial_bn_frozen`; "": none. The network's field `partial_bn` keeps the statistics.

    Returns:
        A function of the parameters. It raises `UserError` for a pattern that no path matches, and
        when nothing is left to train.
    """
    compiled = _compile(patterns.split())

    def rule(params: Any) -> Any:
        paths, structure = jax.tree_util.tree_flatten_with_path(params)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
        for pattern in compiled:
            if not any(pattern.fullmatch(name) for name in names):
                raise UserError(
                    f"config key train.freeze: no parameter is called {describe(pattern.pattern)}; "
                    f"a pattern is for the whole path, such as {names[0]!r} or {names[-1]!r}"
                )
        every = [*compiled, re.compile(partial_bn)] if partial_bn else compiled
        frozen = [any(pattern.fullmatch(name) for pattern in every) for name in names]
        if all(frozen):
            raise UserError(
                "config key train.freeze: every parameter is frozen and nothing is left to train"
            )
        return jax.tree_util.tree_unflatten(structure, frozen)

    return rule


def _compile(patterns: Sequence[str]) -> list[re.Pattern]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(
                f"config key train.freeze: {describe(pattern)} is not a regular expression "
                f"({error})"
            ) from error
    return compiled
