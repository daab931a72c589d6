"""Attention expressions: modules of the table chained by `->` and averaged by `+`.

`+` binds tighter: "CinST+STinC->C" averages CinST and STinC, and C refines the result. `parse`
turns the text into a tree, `Attention` runs the tree.
"""

import dataclasses
import functools
import operator

import flax.linen as nn

from aia_jax.models.attention import MODULES
from aia_jax.ops import forward_barrier
from aia_jax.shapes import Array, Float

NONE = "none"


@dataclasses.dataclass(frozen=True)
class ModuleCall:
    """A leaf of an expression.

    Attributes:
        module: the module's name in the table.
        name: its name in the expression: `module`, or X_2, X_3, … where the module X occurs again.
    """

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Combination:
    """Operands that run one after another ("->"), or side by side and are averaged ("+")."""

    operator: str
    operands: tuple["Tree", ...]


Tree = ModuleCall | Combination


def parse(expression: str) -> Tree | None:
    """Reads an attention expression such as "CinST->STinC".

    Returns:
        The expression as a tree; None for "none".

    Raises:
        ValueError: for a module that is not in the table, or modules of different sites.
    """
    if expression == NONE:
        return None
    seen: dict[str, int] = {}

    def leaf(text: str) -> ModuleCall:
        module = text.strip()
        if module not in MODULES:
            raise ValueError(
                f"attention={expression!r}: {module!r} is no attention module; use {NONE}, or "
                f"{', '.join(MODULES)} joined by -> or +"
            )
        seen[module] = count = seen.get(module, 0) + 1
        return ModuleCall(module, f"{module}_{count}" if count > 1 else module)

    def combine(symbol: str, operands: list[Tree]) -> Tree:
        return operands[0] if len(operands) == 1 else Combination(symbol, tuple(operands))

    tree = combine(
        "->",
        [combine("+", [leaf(text) for text in step.split("+")]) for step in expression.split("->")],
    )
    if len({MODULES[module].site for module in seen}) > 1:
        sites = ", ".join(f"{module} {MODULES[module].site}" for module in seen)
        raise ValueError(
            f"attention={expression!r}: its modules stand at different sites of a bottleneck "
            f"({sites}); join modules of one site"
        )
    return tree


def module_calls(expression: str) -> list[ModuleCall]:
    """An expression's modules, in the order in which they are written.

    Raises:
        ValueError: as `parse`.
    """
    return _calls(parse(expression))


def site_of(expression: str) -> str | None:
    """Where in a bottleneck an expression stands, one of `SITES`; None for "none".

    Raises:
        ValueError: as `parse`.
    """
    calls = module_calls(expression)
    return MODULES[calls[0].module].site if calls else None


def _calls(tree: Tree | None) -> list[ModuleCall]:
    if isinstance(tree, Combination):
        return [call for operand in tree.operands for call in _calls(operand)]
    return [] if tree is None else [tree]


class Attention(nn.Module):
    """Runs an attention expression on a feature; its shape and dtype stay.

    Attributes:
        expression: as `parse` reads it.
        bn_momentum, bn_group_size: handed on to every module.
        relu: whether max(·, 0) of the refined feature is returned.
    """

    expression: str
    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        return self._run(parse(self.expression), x, train, self.relu)

    def _run(self, tree: Tree | None, x: Array, train: bool, relu: bool) -> Array:
        """Runs a tree; `relu` is handed on to the last module, which may fuse it."""
        if isinstance(tree, ModuleCall):
            module = MODULES[tree.module].module(
                bn_momentum=self.bn_momentum,
                bn_group_size=self.bn_group_size,
                relu=relu,
                name=tree.name,
            )
            return module(x, train)
        if tree is None:
            return nn.relu(x) if relu else x
        if tree.operator == "->":
            *first, last = tree.operands
            for operand in first:
                x = forward_barrier(self._run(operand, x, train, False))
            return self._run(last, x, train, relu)
        branches = [self._run(operand, x, train, False) for operand in tree.operands]
        x = functools.reduce(operator.add, branches) * (1 / len(branches))
        return nn.relu(x) if relu else x
