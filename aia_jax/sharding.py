"""The mesh of devices, and how batches and train states are split over it.

`data` and `fsdp` both split a batch's rows, so each device along these axes computes other clips.
`fsdp` also splits parameters and optimiser state, and `time` the frames of a clip. A sharding only
says which device holds which part of an array: `jax.jit` inserts the communication. Where it would
insert too much, operations look up the mesh that they are traced for (`on_mesh`).

Results are those of one device up to the order of sums, and with bfloat16 activations up to its
rounding: each device then rounds its part of a convolution kernel's gradient to bfloat16, as one
device rounds the whole. The parts are summed in float32.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from aia_jax.errors import UserError
from aia_jax.shapes import PyTree

AXES = ("data", "fsdp", "time")
ROW_AXES = ("data", "fsdp")  # split the rows of a batch
_MIN_SPLIT_SIZE = 2**16  # elements (256 KiB of float32): gathering smaller leaves does not pay


def make_mesh(sizes: Any, devices: Sequence[Any] | None = None) -> Mesh:
    """Arranges all devices in a mesh with the axes `data`, `fsdp` and `time`.

    Devices are in the order of their hosts, so each host's rows are one contiguous block of the
    batch on any mesh. `jax.make_mesh` would follow a TPU's physical ring instead, where devices of
    one host may not be neighbours; an all-reduce over the whole mesh uses that ring all the same.

    Args:
        sizes: the config's `mesh`, or a dict like it: devices on each axis; `data` -1 takes all
            that the others leave.
        devices: those of all hosts, if not `jax.devices()`.

    Raises:
        UserError: if the sizes do not multiply to the number of devices.
    """
    devices = sorted(
        jax.devices() if devices is None else devices,
        key=lambda device: (device.process_index, device.id),
    )
    count, others = len(devices), sizes["fsdp"] * sizes["time"]
    data = count // others if sizes["data"] == -1 else sizes["data"]
    if data * others != count:
        product = " × ".join(f"mesh.{axis}={sizes[axis]}" for axis in AXES)
        remedy = f"a mesh.fsdp × mesh.time that divides {count}"
        if count % others == 0:
            remedy = f"mesh.data=-1 or {count // others}"
        raise UserError(
            f"{product} does not lay out {count} device{'s' * (count > 1)}; use {remedy}"
        )
    grid = np.array(devices).reshape(data, sizes["fsdp"], sizes["time"])
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def on_mesh(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets operations within `function` know the mesh; call it before `jax.jit`.

    Without it results are the same. With it the devices along `time` compute their own frames only
    (`aia_jax.ops.frames`), and gradients of convolution kernels are summed over devices in float32
    (`aia_jax.ops.convolution`).

    Args:
        mesh: from `make_mesh`.
        function: what is traced; its arguments lie on the devices of the mesh.
    """

    @functools.wraps(function)
    def traced_for_mesh(*args: Any, **kwargs: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return traced_for_mesh


def mesh_of_trace() -> AbstractMesh | None:
    """The mesh that `on_mesh` gave the function that is traced; None if there is none.

    None too within a `jax.shard_map`, where code sees one device's part of an array.
    """
    mesh = jax.sharding.get_abstract_mesh()
    is_ours = mesh.axis_names == AXES and mesh.axis_types == (AxisType.Auto,) * len(AXES)
    return mesh if is_ours else None


def row_shards(mesh: Mesh | AbstractMesh) -> int:
    """The number of parts into which the mesh splits a batch's rows."""
    return math.prod(mesh.shape[axis] for axis in ROW_AXES)


def check_batch(
    mesh: Mesh, batch_size: int, key: str = "train.batch_size", accumulate: int = 1
) -> None:
    """Checks that a batch, or each of its `accumulate` parts, splits evenly over the mesh.

    Raises:
        UserError: names `key`, the batch size, the devices and the nearest sizes that fit.
    """
    unit = row_shards(mesh) * accumulate
    if batch_size % unit:
        below = batch_size // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        parts = f" in {accumulate} parts (train.accumulate)" if accumulate > 1 else ""
        devices = f"{row_shards(mesh)} devices (mesh.data × mesh.fsdp)"
        raise UserError(
            f"config key {key}: {batch_size} clips{parts} do not split evenly over {devices}; use "
            f"{nearest}"
        )


def host_block(mesh: Mesh) -> tuple[int, int]:
    """The block of a batch's rows that this host reads.

    Hosts along `time` read the same rows and get the same index.

    Returns:
        (index, count): the host reads block `index` of `count` equal, contiguous blocks.
    """
    sharding = NamedSharding(mesh, PartitionSpec(ROW_AXES))
    starts: dict[int, int] = {}  # host → its first part of the rows
    for device, (block,) in sharding.devices_indices_map((row_shards(mesh),)).items():
        start = block.start or 0
        starts[device.process_index] = min(start, starts.get(device.process_index, start))
    blocks = sorted(set(starts.values()))
    return blocks.index(starts[jax.process_index()]), len(blocks)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_shardings(mesh: Mesh, batch: Mapping[str, Any]) -> dict[str, NamedSharding]:
    """The sharding of each array of a batch: rows over `data` and `fsdp`, frames over `time`.

    Args:
        batch: arrays or their shapes. "clips" is [B, T, H, W, 3] or, with several views of each
            video, [B, views, T, H, W, 3].
    """
    frames_axis = -4  # of "clips"

    def spec(name: str, array: Any) -> PartitionSpec:
        if name != "clips":
            return PartitionSpec(ROW_AXES)
        axes: list[Any] = [ROW_AXES] + [None] * (array.ndim - 1)
        axes[frames_axis] = "time"
        return PartitionSpec(*axes)

    return {name: NamedSharding(mesh, spec(name, array)) for name, array in batch.items()}


def state_shardings(mesh: Mesh, state: PyTree, min_size: int = _MIN_SPLIT_SIZE) -> PyTree:
    """The sharding of each leaf of a train state: split over `fsdp`, or whole on every device.

    The largest dimension that `fsdp` divides is split. Parameters and their momenta have the same
    shapes, and so the same shardings.

    Args:
        mesh: from `make_mesh`.
        state: arrays or their shapes (`jax.eval_shape`).
        min_size: leaves with fewer elements stay whole.

    Returns:
        The same tree of `NamedSharding`.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(leaf.shape) if size % fsdp == 0]
        if fsdp == 1 or not divisible or math.prod(leaf.shape) < min_size:
            return replicated(mesh)
        largest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(sharding, state)
