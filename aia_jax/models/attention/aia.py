"""Attention modules of AIA: C, ST, one inserted in the other, and their combinations (paper,
section III).

An attention *expression* says what a bottleneck carries. Modules (`C`, `ST`, `CinST`, `STinC`) are
chained by `->` and averaged by `+`, which binds tighter. `parse` turns the text into a tree,
`Attention` runs the tree.
"""

import dataclasses
import functools
import operator
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.models.batch_norm import BatchNorm, group_count, running_average
from aia_jax.ops import attend, gate, gated, gated_pools, kept, shares, stencil, use_gpu_kernels
from aia_jax.ops.triton.feature_pass import MAX_FRAMES
from aia_jax.shapes import Array, Float

NONE = "none"
EPSILON = 1e-5  # of batch normalisation

# What a name in an expression pools: its gate is the mean of its units' gates (paper, Eq. 9).
UNITS = {"C": ("C",), "ST": ("T", "H", "W")}


@dataclasses.dataclass(frozen=True)
class Axis:
    """One unit's geometry: the pooled axis of [B, T, H, W, C], and how the reference's kernel (d,
    h, w) lies on what remains.
    """

    pooled: int
    kernel_order: tuple[int, int, int]


AXES = {
    "C": Axis(4, (0, 1, 2)),  # kernel runs along (T, H, W), as the remaining axes do
    "T": Axis(1, (1, 2, 0)),  # kernel (C, H, W) on (H, W, C)
    "H": Axis(2, (0, 2, 1)),  # kernel (T, C, W) on (T, W, C)
    "W": Axis(3, (0, 1, 2)),  # kernel (T, H, C) on (T, H, C)
}


class Gates(NamedTuple):
    """Gates that act together, by their mean; `axes` says what axis of the feature each lacks
    (`ops.gated`).
    """

    planes: tuple[Array, ...]
    axes: tuple[int, ...]


NO_GATES = Gates((), ())


class Shared(NamedTuple):
    """By what the gradients of a pooled pair are divided: how many elements equal each maximum, if
    that is known, and the axis' length.
    """

    ties: Array | None
    length: int


@dataclasses.dataclass(frozen=True)
class Module:
    """A single attention (`guide` is None) or an attention in attention: the gate of `host`
    computed on what `guide` refined.
    """

    name: str
    guide: str | None
    host: str


@dataclasses.dataclass(frozen=True)
class Combination:
    """Parts that run one after another ("->") or side by side and averaged ("+")."""

    kind: str
    parts: tuple["Module | Combination", ...]


def parse(expression: str) -> Module | Combination | None:
    """Reads an attention expression such as "CinST->STinC".

    Returns:
        The expression as a tree; None for "none". A module that occurs again gets the names X_2,
        X_3, …

    Raises:
        ValueError: for a module that does not exist.
    """
    if expression == NONE:
        return None
    seen: dict[str, int] = {}

    def module(text: str) -> Module:
        names = "|".join(UNITS)
        match = re.fullmatch(rf"(?:(?P<guide>{names})in)?(?P<host>{names})", text.strip())
        if match is None:
            raise ValueError(
                f"attention={expression!r}: {text.strip()!r} is no attention module; use none, or "
                "C, ST, CinST, STinC joined by -> or +"
            )
        seen[text.strip()] = count = seen.get(text.strip(), 0) + 1
        return Module(
            text.strip() + (f"_{count}" if count > 1 else ""), match["guide"], match["host"]
        )

    def combine(kind: str, parts: list[Any]) -> Module | Combination:
        return parts[0] if len(parts) == 1 else Combination(kind, tuple(parts))

    return combine(
        "->",
        [
            combine("+", [module(text) for text in part.split("+")])
            for part in expression.split("->")
        ],
    )


def kaiming_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Kaiming normal for ReLU over fan-out 27, not truncated: the reference's start of a single
    attention's convolutions.
    """
    return jax.random.normal(key, shape, dtype) * (2 / 27) ** 0.5


def xavier_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Xavier normal over fan-in 54 and fan-out 27: the reference's start of a host's convolutions."""
    return jax.random.normal(key, shape, dtype) * (2 / (54 + 27)) ** 0.5


class StencilConv(nn.Module):
    """Holds the 54 weights of one unit's convolution, in the reference's order (d, h, w, pooled
    pair).
    """

    kernel_order: tuple[int, int, int]
    kernel_init: Any

    @nn.compact
    def __call__(
        self, maximum: Float[Array, "b i j k"], mean: Float[Array, "b i j k"]
    ) -> Float[Array, "b i j k"]:
        kernel = self.param("kernel", self.kernel_init, (3, 3, 3, 2))
        dtype = jnp.promote_types(maximum.dtype, jnp.float32)
        return stencil(maximum, mean, kernel.transpose(*self.kernel_order, 3).astype(dtype))


class AxisGate(nn.Module):
    """One unit: convolves the pooled pair of its axis, and answers with weights between 0 and 1
    (paper, Eqs. 5-8).

    The convolution's batch normalisation is the reference's; the paper mentions it in section IV-B
    only.
    """

    axis: Axis
    kernel_init: Any
    bn_momentum: float
    bn_group_size: int = 0

    @nn.compact
    def __call__(
        self,
        maximum: Float[Array, "b i j k"],
        mean: Float[Array, "b i j k"],
        train: bool,
        shared: Shared | None = None,
    ) -> Float[Array, "b i j k"]:
        """`shared` says that gradients of maximum and mean are those of one element, as
        `ops.attend` wants them.
        """
        if shared is not None and train:
            return self._in_kernels(maximum, mean, shared)
        if shared is not None and shared.ties is not None:
            maximum, mean = shares(maximum, mean, shared.ties, shared.length)
        response = StencilConv(self.axis.kernel_order, self.kernel_init, name="conv")(maximum, mean)
        norm = BatchNorm(
            use_running_average=not train,
            momentum=self.bn_momentum,
            epsilon=EPSILON,
            dtype=response.dtype,
            sigmoid=True,
            group_rows=self.bn_group_size,
            name="bn",
        )
        # A gate is small and every element of it is read many times: the barrier keeps XLA from
        # computing it anew for each reader.
        return jax.lax.optimization_barrier(norm(response[..., None])[..., 0])

    def _in_kernels(self, maximum: Array, mean: Array, shared: Shared) -> Array:
        """The same, normalised by the batch's statistics, in one operation."""
        clips = maximum.shape[0]
        kernel = self.get_variable("params", "conv")["kernel"].transpose(*self.axis.kernel_order, 3)
        norm, running = self.get_variable("params", "bn"), self.get_variable("batch_stats", "bn")
        groups = group_count(clips, self.bn_group_size)
        gates, *statistics = gate(
            maximum,
            mean,
            shared.ties,
            kernel,
            norm["scale"],
            norm["bias"],
            shared.length,
            groups,
            EPSILON,
        )
        moved = {
            name: running_average(running[name], now, self.bn_momentum)
            for name, now in zip(("mean", "var"), statistics, strict=True)
        }
        self.put_variable("batch_stats", "bn", moved)
        return gates


class AttentionModule(nn.Module):
    """C, ST, CinST or STinC.

    The guide's gates refine what the host pools; the host's gates alone multiply x (paper, Eqs.
    12-15).

    Attributes:
        relu: whether max(., 0) of the refined feature is returned.
    """

    guide: str | None
    host: str
    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        if use_gpu_kernels(x) and x.shape[1] <= MAX_FRAMES and not self.is_initializing():
            return self._in_kernels(x, train)
        guide = (
            NO_GATES
            if self.guide is None
            else self._gates(self.guide, x, NO_GATES, train, kaiming_normal)
        )
        host = self._gates(
            self.host, x, guide, train, kaiming_normal if self.guide is None else xavier_normal
        )
        y = gated(x, host.planes, host.axes)
        return nn.relu(y) if self.relu else y

    def _gates(self, name: str, x: Array, guide: Gates, train: bool, init: Any) -> Gates:
        """Those of the units that `name` stands for, computed on what the guide leaves of x."""
        axes = tuple(AXES[unit].pooled for unit in UNITS[name])
        pools = gated_pools(x, guide.planes, guide.axes, axes)
        planes = [
            AxisGate(AXES[unit], init, self.bn_momentum, self.bn_group_size, name=unit)(
                *pooled, train
            )
            for unit, pooled in zip(UNITS[name], pools, strict=True)
        ]
        return Gates(tuple(planes), axes)

    def _in_kernels(self, x: Array, train: bool) -> Array:
        """The same with one gradient for the whole module, so its units are functions of their
        variables here.
        """

        def gates_of(
            names: tuple[str, ...], variables: dict[str, Any], pools: Any
        ) -> tuple[tuple[Array, ...], dict[str, Any]]:
            gates, running = [], {}
            for unit, (maximum, mean, ties) in zip(names, pools, strict=True):
                unit_of = AxisGate(
                    AXES[unit], kaiming_normal, self.bn_momentum, self.bn_group_size, parent=None
                )
                shared = Shared(ties, x.shape[AXES[unit].pooled])
                out, updates = unit_of.apply(
                    variables[unit], maximum, mean, train, shared, mutable=["batch_stats"]
                )
                gates.append(out.astype(x.dtype))
                running[unit] = updates["batch_stats"]
            return tuple(gates), running

        names = (UNITS[self.guide] if self.guide else (), UNITS[self.host])
        variables = tuple(
            {
                unit: {
                    collection: of_units[unit] for collection, of_units in self.variables.items()
                }
                for unit in units
            }
            for units in names
        )
        y, running = attend(
            tuple(functools.partial(gates_of, units) for units in names),
            tuple(tuple(AXES[unit].pooled for unit in units) for units in names),
            self.relu,
            x,
            variables,
        )
        if train:
            for unit, statistics in (
                item for of_units in running if of_units for item in of_units.items()
            ):
                self.put_variable("batch_stats", unit, statistics)
        return y


class Attention(nn.Module):
    """Runs an attention expression on a feature; the shape stays.

    Attributes:
        relu: whether max(., 0) of the refined feature is returned.
    """

    expression: str
    bn_momentum: float = 0.9
    bn_group_size: int = 0
    relu: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"], train: bool) -> Float[Array, "b t h w c"]:
        return self._run(parse(self.expression), x, train, self.relu)

    def _run(self, part: Module | Combination | None, x: Array, train: bool, relu: bool) -> Array:
        if isinstance(part, Module):
            return AttentionModule(
                part.guide, part.host, self.bn_momentum, self.bn_group_size, relu, name=part.name
            )(x, train)
        if part is not None and part.kind == "->":
            *first, last = part.parts
            for stage in first:
                x = kept(self._run(stage, x, train, False))
            return self._run(last, x, train, relu)
        if part is not None:
            branches = [self._run(branch, x, train, False) for branch in part.parts]
            x = functools.reduce(operator.add, branches) * (1 / len(branches))
        return nn.relu(x) if relu else x
