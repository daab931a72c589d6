"""The mesh of devices, and how batches and train states are split over it.

`data` and `fsdp` both split a batch's rows, so each device along these axes computes other clips.
`fsdp` also splits parameters and optimiser state, and `time` the frames of a clip. A sharding only
says which device holds which part of an array: `jax.jit` inserts the communication, and results are
those of one device up to the order of sums.
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
ROW_AXES = ("data", "fsdp")  # split the rows of a batch
_MIN_SPLIT_SIZE = 2**16  # elements (256 KiB of float32): gathering smaller leaves does not pay

_JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# srun sets all of these.
_SLURM_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
_TPU_HOST_LISTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


def initialise_hosts() -> None:
    """Connects the processes of one run, if the environment says that there are several.

    Call it before any other function of JAX. The environment says so by JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID (on machines of any kind), by `srun` with more than one
    task, or by being a TPU pod. On a single machine this function does nothing.

    Raises:
        UserError: if only some of the three variables are set, or count and index are no numbers or
            do not fit together.
    """
    if jax.distributed.is_initialized():
        return
    variables = {
        variable: os.environ[variable] for variable in _JAX_VARIABLES if os.environ.get(variable)
    }
    if len(variables) == len(_JAX_VARIABLES):
        address, count, index = variables.values()
        if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
            raise UserError(
                f"JAX_NUM_PROCESSES={count} and JAX_PROCESS_ID={index}: expected a count and an "
                "index below it"
            )
        jax.distributed.initialize(address, int(count), int(index))
    elif _on_slurm():
        jax.distributed.initialize()
    elif variables:
        missing = [variable for variable in _JAX_VARIABLES if variable not in variables]
        raise UserError(
            f"the environment sets {', '.join(variables)} but not {', '.join(missing)}; set all "
            "three in every process, or none"
        )
    # JAX sets `jax_platforms` to "tpu" itself where it finds chips and their library.
    elif "tpu" in (jax.config.jax_platforms or "") and _count_tpu_hosts() != 1:
        _initialise_tpu_pod()


def _on_slurm() -> bool:
    return (
        all(variable in os.environ for variable in _SLURM_VARIABLES)
        and int(os.environ["SLURM_NTASKS"]) > 1
    )


def _count_tpu_hosts() -> int | None:
    """TPU hosts of the run by the variables that GKE sets; None if it sets none."""
    lists = [os.environ[variable] for variable in _TPU_HOST_LISTS if os.environ.get(variable)]
    if not lists:
        return None
    slices = int(os.environ.get("MEGASCALE_NUM_SLICES") or 1)
    return len(lists[0].split(",")) * slices


def _initialise_tpu_pod() -> None:
    """Lets JAX ask the machine's metadata server for the hosts of the pod.

    A single TPU machine may have no such server: then the failure is ignored.
    """
    try:
        jax.distributed.initialize()
    except (ValueError, OSError):
        if jax.process_count() > 1:  # the TPU runtime sees other hosts, so the failure counts
            raise


def make_mesh(sizes: ConfigDict | Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """Arranges all devices in a mesh with the axes `data`, `fsdp` and `time`.

    Devices are in the order of their hosts, so each host's rows are one contiguous block of the
    batch on any mesh. `jax.make_mesh` would follow a TPU's physical ring instead, where devices of
    one host may not be neighbours; an all-reduce over the whole mesh uses that ring all the same.

    Args:
        sizes: the config's `mesh`: devices on each axis; `data` -1 takes all that the others leave.
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


def row_shards(mesh: Mesh) -> int:
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
