"""The mesh of devices, and where batches and states lie on it.

Axes: `data` and `fsdp` split a batch's rows, so every device of the two sees other clips; `fsdp`
also splits parameters and optimiser state; `time` splits the frames of a clip. Shardings only place
arrays: `jax.jit` inserts what must be exchanged, and results are those of one device up to the
order of sums.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from aia_jax.errors import UserError
from aia_jax.shapes import PyTree

AXES = ("data", "fsdp", "time")
ROWS = ("data", "fsdp")
_SMALL = 2**16  # elements (256 KiB of float32) below which a leaf is not worth gathering

_JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_SLURM_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)  # all are there under srun
_TPU_HOST_LISTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


def initialise_hosts() -> None:
    """Joins the processes of one run, if the environment says that there are several. Call it
    before anything else of JAX.

    It says so by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (on machines of any
    kind), by `srun` with more than one task, or by being a TPU pod. On a single machine this does
    nothing.

    Raises:
        UserError: if only some of the three variables are set, or they are no numbers.
    """
    if jax.distributed.is_initialized():
        return
    given = {
        variable: os.environ[variable] for variable in _JAX_VARIABLES if os.environ.get(variable)
    }
    if len(given) == len(_JAX_VARIABLES):
        address, count, index = given.values()
        if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
            raise UserError(
                f"JAX_NUM_PROCESSES={count} and JAX_PROCESS_ID={index}: expected a count and an "
                "index below it"
            )
        jax.distributed.initialize(address, int(count), int(index))
    elif _on_slurm():
        jax.distributed.initialize()
    elif given:
        missing = [variable for variable in _JAX_VARIABLES if variable not in given]
        raise UserError(
            f"the environment sets {', '.join(given)} but not {', '.join(missing)}; set all three "
            "in every process, or none"
        )
    elif (
        "tpu" in (jax.config.jax_platforms or "") and _tpu_hosts() != 1
    ):  # JAX names the platform itself where it finds chips and library
        _initialise_tpu_pod()


def _on_slurm() -> bool:
    return (
        all(variable in os.environ for variable in _SLURM_VARIABLES)
        and int(os.environ["SLURM_NTASKS"]) > 1
    )


def _tpu_hosts() -> int | None:
    """TPU hosts of the run as GKE lists them in variables; None where nothing lists them."""
    lists = [os.environ[variable] for variable in _TPU_HOST_LISTS if os.environ.get(variable)]
    return (
        len(lists[0].split(",")) * int(os.environ.get("MEGASCALE_NUM_SLICES") or 1)
        if lists
        else None
    )


def _initialise_tpu_pod() -> None:
    """Lets JAX ask the machine's metadata server who else belongs to the pod; a lone TPU machine
    may have no such server.
    """
    try:
        jax.distributed.initialize()
    except (ValueError, OSError):
        if jax.process_count() > 1:  # the TPU runtime does see other hosts
            raise


def make_mesh(sizes: ConfigDict | Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Lays all devices on the axes `data`, `fsdp` and `time`.

    Devices of one host stay together in the order of hosts, so each host's rows are one contiguous
    block of the batch on any mesh. (Where `jax.make_mesh` would choose a TPU's physical ring, it
    may tear them apart; an all-reduce over the whole mesh finds the ring itself.)

    Args:
        sizes: the config's `mesh`: devices on each axis; `data` -1 takes what the others leave.
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
        asked = " × ".join(f"mesh.{axis}={sizes[axis]}" for axis in AXES)
        fits = (
            f"mesh.data=-1 or {count // others}"
            if count % others == 0
            else f"a mesh.fsdp × mesh.time that divides {count}"
        )
        raise UserError(f"{asked} does not lay out {count} device{'s' * (count > 1)}; use {fits}")
    grid = np.array(devices).reshape(data, sizes["fsdp"], sizes["time"])
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def row_shards(mesh: Mesh) -> int:
    """Parts that a batch's rows are split into."""
    return math.prod(mesh.shape[axis] for axis in ROWS)


def check_batch(
    mesh: Mesh, batch_size: int, key: str = "train.batch_size", accumulate: int = 1
) -> None:
    """Checks that a batch, or each of its `accumulate` parts, splits evenly over the mesh.

    Raises:
        UserError: naming `key`, the batch size, the devices and the nearest sizes that would do.
    """
    unit = row_shards(mesh) * accumulate
    if batch_size % unit:
        below = batch_size // unit * unit
        fits = f"{below} or {below + unit}" if below else f"{unit}"
        parts = f" in {accumulate} parts (train.accumulate)" if accumulate > 1 else ""
        devices = f"{row_shards(mesh)} devices (mesh.data × mesh.fsdp)"
        raise UserError(
            f"config key {key}: {batch_size} clips{parts} do not split evenly over {devices}; use "
            f"{fits}"
        )


def host_block(mesh: Mesh) -> tuple[int, int]:
    """Which block of a batch's rows this host feeds.

    Hosts along `time` share their rows and get the same index.

    Returns:
        (index, count): the host feeds block `index` of `count` equal, contiguous blocks.
    """
    rows = NamedSharding(mesh, PartitionSpec(ROWS)).devices_indices_map((row_shards(mesh),))
    starts: dict[int, int] = {}  # host → its first row
    for device, (block,) in rows.items():
        start = block.start or 0
        starts[device.process_index] = min(start, starts.get(device.process_index, start))
    blocks = sorted(set(starts.values()))
    return blocks.index(starts[jax.process_index()]), len(blocks)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_shardings(mesh: Mesh, batch: Mapping[str, Any]) -> dict[str, NamedSharding]:
    """Where each array of a batch lies: rows over `data` and `fsdp`, the frames of clips over
    `time`.

    Args:
        batch: arrays or their shapes. "clips" is [B, T, H, W, 3] or, with several views a video,
            [B, views, T, H, W, 3].
    """
    frames_axis = -4

    def spec(name: str, array: Any) -> PartitionSpec:
        if name != "clips":
            return PartitionSpec(ROWS)
        axes: list[Any] = [ROWS] + [None] * (array.ndim - 1)
        axes[frames_axis] = "time"
        return PartitionSpec(*axes)

    return {name: NamedSharding(mesh, spec(name, array)) for name, array in batch.items()}


def state_shardings(mesh: Mesh, state: PyTree, small: int = _SMALL) -> PyTree:
    """Where each leaf of a train state lies: whole on every device, or its largest dimension that
    divides split over `fsdp`.

    Parameters and their momenta have the same shapes and so lie alike.

    Args:
        state: arrays or their shapes (`jax.eval_shape`).
        small: leaves of fewer elements stay whole.

    Returns:
        The same tree of `NamedSharding`.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(leaf: Any) -> NamedSharding:
        splits = [axis for axis, size in enumerate(leaf.shape) if size % fsdp == 0]
        if fsdp == 1 or not splits or math.prod(leaf.shape) < small:
            return replicated(mesh)
        largest = max(splits, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(sharding, state)
