"""Between clips [B, T, …] and their frames [B·T, …], on one device and on a mesh.

A mesh whose axis `time` is longer than 1 splits the frames of every clip. In the usual order of
[B·T, …], clip by clip, the rows of a device are then no block, unless it has a single clip. XLA
would gather all frames on every device, and each would compute all of them. So on such a mesh the
rows are in the order of the devices, and those of a device are one block: its clips' own frames. No
frame moves for it. What works on each row, or sums over rows, does not depend on their order.
"""

import jax
from jax.sharding import AbstractMesh, PartitionSpec

from aia_jax.errors import UserError
from aia_jax.shapes import Array, Float
from aia_jax.sharding import AXES, ROW_AXES, mesh_of_trace, row_shards

CLIPS = PartitionSpec(ROW_AXES, "time")  # of [B, T, …]
ROWS = PartitionSpec(AXES)  # of [B·T, …]


def time_parts() -> int:
    """The number of parts into which the mesh of this trace splits the frames of a clip.

    1 without a mesh (`aia_jax.sharding.on_mesh`), and within a `jax.shard_map`.
    """
    mesh = mesh_of_trace()
    return 1 if mesh is None else mesh.shape["time"]


def fold_frames(clips: Float[Array, "b t ..."]) -> Float[Array, "n ..."]:
    """Makes a row of every frame, [B, T, …] → [B·T, …].

    Rows are in the order of clips and frames, but where a mesh splits the frames first in the order
    of its devices.

    Raises:
        UserError: if clips or frames do not split evenly over the mesh.
    """
    mesh = mesh_of_trace()
    if mesh is None or mesh.shape["time"] == 1:
        return clips.reshape(-1, *clips.shape[2:])
    _check_split(mesh, *clips.shape[:2])

    def fold_own_frames(clips: Array) -> Array:
        return clips.reshape(-1, *clips.shape[2:])

    return jax.shard_map(fold_own_frames, in_specs=CLIPS, out_specs=ROWS)(clips)


def unfold_frames(rows: Float[Array, "n ..."], frames: int) -> Float[Array, "b t ..."]:
    """Undoes `fold_frames`, [B·T, …] → [B, T, …].

    Args:
        rows: in the order of `fold_frames`.
        frames: T.

    Raises:
        UserError: if clips or frames do not split evenly over the mesh.
    """
    mesh = mesh_of_trace()
    if mesh is None or mesh.shape["time"] == 1:
        return rows.reshape(-1, frames, *rows.shape[1:])
    own_frames = frames // mesh.shape["time"]
    _check_split(mesh, rows.shape[0] // frames, frames)

    def unfold_own_frames(rows: Array) -> Array:
        return rows.reshape(-1, own_frames, *rows.shape[1:])

    return jax.shard_map(unfold_own_frames, in_specs=ROWS, out_specs=CLIPS)(rows)


def exchange_borders(first: Array, last: Array) -> tuple[Array, Array]:
    """Gives neighbours along `time` each other's borders; call it within a `jax.shard_map`.

    Args:
        first: what the device before this one needs.
        last: what the device after this one needs.

    Returns:
        `first` of the device after this one, `last` of the one before; zeros where there is none.
    """
    others = range(1, jax.lax.axis_size("time"))
    following = jax.lax.ppermute(first, "time", [(n, n - 1) for n in others])
    preceding = jax.lax.ppermute(last, "time", [(n - 1, n) for n in others])
    return following, preceding


def check_time_parts(num_frames: int, parts: int, segment_frames: int = 1) -> None:
    """Checks that `parts` devices can share the frames of a clip.

    Args:
        num_frames: `data.num_frames`, frames of the clip or segments of them.
        parts: devices along `time`.
        segment_frames: consecutive frames of a segment, all of which one device needs.

    Raises:
        UserError: names the numbers of devices that can.
    """
    if num_frames % parts:
        fitting = " or ".join(str(n) for n in range(1, num_frames + 1) if num_frames % n == 0)
        shared = f"{num_frames} frames"
        if segment_frames > 1:
            shared = f"{num_frames} segments of {segment_frames} frames"
        raise UserError(
            f"config key mesh.time: {parts} devices cannot share {shared} equally "
            f"(data.num_frames); use {fitting}"
        )


def _check_split(mesh: AbstractMesh, clips: int, frames: int) -> None:
    check_time_parts(frames, mesh.shape["time"])
    if clips % row_shards(mesh):
        raise UserError(
            f"{clips} clips do not split evenly over {row_shards(mesh)} devices (mesh.data × "
            "mesh.fsdp)"
        )
