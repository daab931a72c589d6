"""Runs kernels on a mesh: every device computes the clips that it holds.

XLA cannot look into a kernel, so it would gather all operands on every device. JAX's
`custom_partitioning` tells it that clips, the first axis of all arrays, are independent.
"""

import string
from collections.abc import Callable, Sequence
from typing import Any

from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from aia_jax.shapes import Array


def partition_over_clips(
    function: Callable[..., tuple[Array, ...]], result_ranks: Sequence[int], num_replicated: int = 0
) -> Callable[..., tuple[Array, ...]]:
    """Returns `function`, run on each device's clips where the clips are sharded.

    Where another axis is sharded (frames over the mesh axis "time"), XLA gathers it first.

    Args:
        function: arrays → arrays. The first axis of every array is the clips, but for
            `num_replicated` arguments.
        result_ranks: the number of axes of each result.
        num_replicated: how many of the last arguments have no clips; every device gets these whole.
    """

    def shard_first_axis(mesh: Any, mesh_axes: Any, rank: int) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(mesh_axes, *[None] * (rank - 1)))

    def result_shardings(
        mesh: Any, arguments: Sequence[Any], results: Sequence[Any]
    ) -> tuple[NamedSharding, ...]:
        mesh_axes = _mesh_axes_of_clips(arguments[0])
        return tuple(shard_first_axis(mesh, mesh_axes, rank) for rank in result_ranks)

    def partition(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]) -> tuple[Any, ...]:
        mesh_axes = _mesh_axes_of_clips(arguments[0])
        num_with_clips = len(arguments) - num_replicated
        argument_shardings = tuple(
            shard_first_axis(mesh, mesh_axes if i < num_with_clips else None, len(argument.shape))
            for i, argument in enumerate(arguments)
        )
        return mesh, function, result_shardings(mesh, arguments, results), argument_shardings

    def sharding_rule(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]) -> str:
        """Says it to the Shardy partitioner, as "clips a1 b1, clips c1, d1 -> clips e1"."""
        names = (
            f"{letter}{number}" for number in range(1, 100) for letter in string.ascii_lowercase
        )

        def name_axes(rank: int, has_clips: bool) -> str:
            return " ".join(["clips"] * has_clips + [next(names) for _ in range(rank - has_clips)])

        num_with_clips = len(arguments) - num_replicated
        named_arguments = [
            name_axes(len(argument.shape), i < num_with_clips)
            for i, argument in enumerate(arguments)
        ]
        named_results = [name_axes(rank, True) for rank in result_ranks]
        return ", ".join(named_arguments) + " -> " + ", ".join(named_results)

    # The lambda hides `function`'s signature: custom_partitioning refuses keyword-only parameters.
    partitioned = custom_partitioning(lambda *arrays: function(*arrays))
    partitioned.def_partition(
        partition=partition,
        infer_sharding_from_operands=result_shardings,
        sharding_rule=sharding_rule,
    )
    return partitioned


def _mesh_axes_of_clips(argument: Any) -> Any:
    """The mesh axes over which the first axis of an argument is sharded; None for no axis."""
    spec = getattr(argument.sharding, "spec", ())
    return spec[0] if len(spec) else None
