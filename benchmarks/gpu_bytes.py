"""Counts the bytes and kernels of a step in the program that XLA compiles for an H100.

    python -m benchmarks.gpu_bytes        # TSN and AIA(TSN), training and evaluation, 32 clips
    python -m benchmarks.gpu_bytes --modes evaluation --batch 8 --top 20

No GPU is needed, but JAX's CUDA plug-in of jax's version: the packages jax-cuda12-plugin and
jax-cuda12-pjrt, without NVIDIA's libraries. The inputs and outputs of every kernel are counted, as
if a GPU had no caches; those of a convolution as a library's, whose algorithm is not tuned here.
Compiling the networks with attention takes a minute on two cores.

Attention is counted as NVIDIA GPUs run it, in Triton kernels; AIA_GPU_KERNELS=0 counts XLA's own
operations instead (and compiles for minutes).
"""

import argparse
import os
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"  # the process computes nothing
os.environ.setdefault("AIA_GPU_KERNELS", "1")  # by default only where JAX finds a GPU
# Tuning would need the device.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from aia_jax import create_model
from benchmarks import gpu_jobs, gpu_program
from benchmarks.gpu_jax import make_step

# XLA's GpuTargetConfigProto of an H100 with 80 GB.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000 device_memory_size: 84978434048 l2_cache_size: 52428800
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def describe_gpu() -> jax.sharding.Sharding:
    """The sharding of a device that XLA can compile for, but that is not there."""
    jax.devices()  # registers the plug-ins
    try:
        gpu = topologies.get_topology_desc("gpu", "cuda", topology="1x1x1", target_config=H100)
    except (NotImplementedError, RuntimeError) as error:
        sys.exit(
            f"error: no program for a GPU can be compiled here ({str(error).splitlines()[0]}); "
            f"install jax-cuda12-plugin and jax-cuda12-pjrt {jax.__version__}"
        )
    return jax.sharding.SingleDeviceSharding(gpu.devices[0])


def compile_step(network: str, mode: str, shape: tuple[int, ...], device: jax.sharding.Sharding):
    """The compiled step and the seconds that compiling took."""
    model = create_model(gpu_jobs.NUM_CLASSES, dtype=jnp.bfloat16, **gpu_jobs.NETWORKS[network])
    step, shapes = make_step(model, mode, shape)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device), shapes)
    try:
        lowered = step.lower(*shapes)
    except RuntimeError as error:  # jax 0.11 wants to see the GPU that a kernel is for
        sys.exit(
            f"error: no kernels without a GPU here ({str(error).splitlines()[0]}); "
            "AIA_GPU_KERNELS=0 counts XLA's passes instead"
        )
    start = time.perf_counter()
    program = lowered.compile()
    return program, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_bytes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        default=["TSN", "AIA(TSN)"],
        choices=list(gpu_jobs.NETWORKS),
        metavar="NETWORK",
    )
    parser.add_argument(
        "--modes", nargs="+", default=list(gpu_jobs.MODES), choices=gpu_jobs.MODES, metavar="MODE"
    )
    parser.add_argument("--batch", type=int, default=32, help="clips")
    parser.add_argument("--clip", type=int, nargs=3, default=[8, 224, 224], metavar=("T", "H", "W"))
    parser.add_argument(
        "--top", type=int, default=0, metavar="N", help="list the N kernels that move most, too"
    )
    options = parser.parse_args()

    device = describe_gpu()
    print(
        f"jax {jax.__version__}, compiled for an H100, {options.batch} clips of {options.clip}, "
        "bfloat16"
    )
    print(
        f"{'network':10} {'mode':10} {'kernels':>8} {'GB':>8} {'x first':>8} {'temporary GB':>13} "
        f"{'x first':>8} {'compile s':>10}"
    )
    for mode in options.modes:
        first = None
        for network in options.networks:
            program, seconds = compile_step(network, mode, (options.batch, *options.clip), device)
            kernels = list(gpu_program.list_kernels(program.as_text()))
            moved = sum(kernel.bytes * kernel.runs for kernel in kernels)
            temporary = program.memory_analysis().temp_size_in_bytes
            first = first or (moved, temporary)
            print(
                f"{network:10} {mode:10} {sum(kernel.runs for kernel in kernels):8} "
                f"{moved / 1e9:8.1f} {moved / first[0]:8.2f} "
                f"{temporary / 1e9:13.2f} {temporary / first[1]:8.2f} {seconds:10.1f}",
                flush=True,
            )
            kernels.sort(key=lambda kernel: -kernel.bytes * kernel.runs)
            for kernel in kernels[: options.top]:
                print(
                    f"    {kernel.bytes * kernel.runs / 1e6:9.1f} MB in {kernel.runs:3} runs  "
                    f"{kernel.name:40} {kernel.source[-80:]}"
                )


if __name__ == "__main__":
    main()
