"""Finds this process's place among the processes of a run, from the environment."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import jax

from aia_jax.errors import UserError

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


@dataclass(frozen=True)
class Place:
    """One process's place in a run.

    Attributes:
        address: HOST:PORT of process 0, under which the others reach it.
        count: processes of the run.
        index: this process's number, 0 to count - 1.
        local_device_ids: the devices of this machine that are this process's; None for all.
    """

    address: str
    count: int
    index: int
    local_device_ids: Sequence[int] | None = None


def find_place(timeout: float) -> Place | None:
    """Finds this process's place; None if it is alone.

    Args:
        timeout: seconds that a cluster's own service may take to answer.

    Raises:
        UserError: if only some of JAX's three variables are set, or they do not fit together.
    """
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
        split_address(address)
        return Place(address, int(count), int(index))
    if _on_slurm():
        return _ask_cluster(timeout)
    if variables:
        missing = [variable for variable in _JAX_VARIABLES if variable not in variables]
        raise UserError(
            f"the environment sets {', '.join(variables)} but not {', '.join(missing)}; set all "
            "three in every process, or none"
        )
    # JAX sets `jax_platforms` to "tpu" itself where it finds chips and their library.
    if "tpu" in (jax.config.jax_platforms or "") and _count_tpu_hosts() != 1:
        return _find_place_in_tpu_pod(timeout)
    return None


def split_address(address: str) -> tuple[str, int]:
    """Splits HOST:PORT, where the host may be an IPv6 address in brackets.

    Raises:
        UserError: if it has another form.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"JAX_COORDINATOR_ADDRESS={address}: expected HOST:PORT, as in host0:1234")
    return host.removeprefix("[").removesuffix("]"), int(port)


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


def _find_place_in_tpu_pod(timeout: float) -> Place | None:
    """Lets JAX ask the machine's metadata server for the hosts of the pod.

    A single TPU machine may have no such server: then the failure is ignored.
    """
    try:
        return _ask_cluster(timeout)
    except (ValueError, OSError):
        if jax.process_count() > 1:  # the TPU runtime sees other hosts, so the failure counts
            raise
        return None


def _ask_cluster(timeout: float) -> Place:
    """Asks JAX for what `jax.distributed.initialize` would find."""
    from jax._src import clusters  # there is no public function that only finds the hosts

    find = clusters.ClusterEnv.auto_detect_unset_distributed_params
    address, count, index, local_device_ids = find(None, None, None, None, None, int(timeout))
    if address is None or count is None or index is None:
        raise ValueError("JAX does not know this cluster")
    return Place(address, count, index, local_device_ids)
