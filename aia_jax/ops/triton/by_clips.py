"""Kernels that XLA cannot look into, on meshes: each device computes its own clips."""

import string
from collections.abc import Callable, Sequence
from typing import Any

from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from aia_jax.shapes import Array


def by_clips(
    function: Callable[..., tuple[Array, ...]], result_ranks: Sequence[int], shared: int = 0
) -> Callable[..., tuple[Array, ...]]:
    """`function`, whose arrays all have clips as their first axis, run on each device's clips.

    Args:
        function: (arrays, …) → arrays.
        result_ranks: the number of axes of each result.
        shared: so many of the last arguments have no clips; every device gets them whole.
    """

    def sharding(mesh: Any, batch: Any, rank: int) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(batch, *[None] * (rank - 1)))

    def infer(
        mesh: Any, arguments: Sequence[Any], results: Sequence[Any]
    ) -> tuple[NamedSharding, ...]:
        return tuple(sharding(mesh, _batch(arguments[0]), rank) for rank in result_ranks)

    def partition(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]) -> tuple[Any, ...]:
        batch = _batch(arguments[0])
        with_clips = len(arguments) - shared
        of_arguments = [
            sharding(mesh, batch if i < with_clips else None, len(a.shape))
            for i, a in enumerate(arguments)
        ]
        return mesh, function, infer(mesh, arguments, results), tuple(of_arguments)

    def rule(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]) -> str:
        names = (
            f"{letter}{number}" for number in range(1, 100) for letter in string.ascii_lowercase
        )

        def axes(rank: int, clips: bool) -> str:
            return " ".join(["clips"] * clips + [next(names) for _ in range(rank - clips)])

        of_arguments = [
            axes(len(a.shape), i < len(arguments) - shared) for i, a in enumerate(arguments)
        ]
        return (
            ", ".join(of_arguments) + " -> " + ", ".join(axes(rank, True) for rank in result_ranks)
        )

    partitioned = custom_partitioning(
        lambda *arrays: function(*arrays)
    )  # it cannot take keyword arguments, not even unused
    partitioned.def_partition(
        partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule
    )
    return partitioned


def _batch(argument: Any) -> Any:
    """The mesh axes that clips are spread over."""
    spec = getattr(argument.sharding, "spec", ())
    return spec[0] if len(spec) else None
