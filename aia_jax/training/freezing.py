"""Which parameters a run keeps as they are: by pattern (`train.freeze`), and as TSN's partial
BatchNorm (`train.partial_bn`).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from aia_jax.errors import UserError

# The backbone's, but for the first: what the reference's `partialBN` puts in evaluation mode. The
# gates' BatchNorm stays trained, there (it is 3-D and the reference looks for 2-D) as here: with
# fresh attention its statistics would be nobody's.
_PARTIAL_BN = r"stage\d+_block\d+/(bn\d|shortcut_bn)/(scale|bias)"

Frozen = Callable[
    [Any], Any
]  # a tree of parameters → the same tree with True where a parameter is frozen


def nothing_frozen(params: Any) -> Any:
    """The rule of a run that trains everything."""
    return jax.tree.map(lambda _: False, params)


def frozen_rule(patterns: str, partial_bn: bool = False) -> Frozen:
    """Builds the rule of a run.

    Args:
        patterns: regular expressions with spaces between them, each for a parameter's whole
            '/'-joined path.
        partial_bn: scale and shift of the backbone's BatchNorm too, but for the first. Their
            statistics are the model's affair (`VideoNet.partial_bn`).

    Returns:
        A function of the parameters. It raises `UserError` for a pattern that no path matches, and
        when nothing is left to train.
    """
    compiled = _compiled(patterns.split())

    def rule(params: Any) -> Any:
        paths, structure = jax.tree_util.tree_flatten_with_path(params)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
        for pattern in compiled:
            if not any(pattern.fullmatch(name) for name in names):
                raise UserError(
                    f"config key train.freeze: no parameter is called {pattern.pattern!r}; a "
                    "pattern is for the whole path, such as "
                    f"{names[0]!r} or {names[-1]!r}"
                )
        every = [*compiled, re.compile(_PARTIAL_BN)] if partial_bn else compiled
        frozen = [any(pattern.fullmatch(name) for pattern in every) for name in names]
        if all(frozen):
            raise UserError(
                "config key train.freeze: every parameter is frozen and nothing is left to train"
            )
        return jax.tree_util.tree_unflatten(structure, frozen)

    return rule


def _compiled(patterns: Sequence[str]) -> list[re.Pattern]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(
                f"config key train.freeze: {pattern!r} is not a regular expression ({error})"
            ) from error
    return compiled
