"""The JAX side of gpu.py, which starts it: this project's own training and evaluation steps.

Needs jax, flax and optax only, of what the project installs. One process for all networks, so that
ratios are of one run. First the programs of all steps are compiled side by side, as XLA's passes
over one of them keep one core busy; then each step is measured.
"""

import functools
import math
import os
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aia_jax import complexity, create_model
from aia_jax.training.state import TrainState
from aia_jax.training.step import make_eval_step, make_train_step
from benchmarks import gpu_jobs, gpu_trace

NO_GRAPHS = {
    "xla_gpu_enable_command_buffer": ""
}  # a CUDA graph is one event in a trace, without the names of its kernels


class Measurer:
    """Compiles, times and profiles the steps.

    Attributes:
        wanted: of `gpu_jobs.options`.
        device: all steps run there.
        programs: job → future of its program and the seconds that compiling took; ("profile", *job)
            → of the program to trace.
    """

    def __init__(self, wanted):
        self.wanted = wanted
        self.device = jax.devices()[0]
        self.programs = {}

    def compile(self):
        """Compiles side by side, small batches first, until all is compiled or what is must be
        measured; the rest is given up.
        """
        start = time.perf_counter()
        pool = ThreadPoolExecutor(os.cpu_count())
        for network, mode, batch in gpu_jobs.jobs(self.wanted):
            if self._seconds_to_wait() < 0:
                break
            step, shapes = step_and_shapes(_model(network), mode, (batch, *self.wanted.clip))
            lowered = step.lower(*shapes)
            self.programs[network, mode, batch] = pool.submit(_compile, lowered)
            if self._is_profiled(batch) and self.device.platform == "gpu":
                self.programs["profile", network, mode, batch] = pool.submit(
                    _compile, lowered, NO_GRAPHS
                )
        begun = self.programs
        while (left := [future for future in begun.values() if not future.done()]) and (
            seconds := self._seconds_to_wait()
        ) > 0:
            wait(left, timeout=seconds, return_when=FIRST_COMPLETED)
        pool.shutdown(wait=False, cancel_futures=True)
        self.programs = {
            job: future for job, future in begun.items() if future.done() and not future.cancelled()
        }
        seconds = time.perf_counter() - start
        gpu_jobs.emit(
            note=f"{len(self.programs)} of {len(begun)} programs compiled side by side in "
            f"{seconds:.0f} s"
        )

    def _seconds_to_wait(self):
        """What the deadline leaves after the programs that are compiled have been measured."""
        compiled = sum(future.done() for future in self.programs.values())
        return (
            self.wanted.deadline - time.time() - compiled * gpu_jobs.seconds_to_measure(self.wanted)
        )

    def _is_profiled(self, batch):
        return self.wanted.profile and batch == min(self.wanted.batches)

    def __call__(self, network, mode, batch):
        """Seconds a step and to compile; multiply-accumulates a clip; bytes that a step accesses,
        the program holds, the process held.
        """
        job = (network, mode, batch)
        if job not in self.programs:
            return {"failed": gpu_jobs.NO_TIME_LEFT}
        program, compile_seconds = self.programs.pop(job).result()
        peak_before = self.peak_bytes()
        run = Run(program, mode)
        row = {
            "seconds": gpu_jobs.seconds_per_step(run.step, run.wait, self.wanted),
            "compile_seconds": compile_seconds,
        }
        row["macs"] = _macs(network, (*self.wanted.clip, 3))
        row["bytes_accessed"] = (program.cost_analysis() or {}).get("bytes accessed")
        memory = program.memory_analysis()
        row["program_bytes"] = memory and (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )
        # The allocator's peak is the process's: it says something about this step only if this step
        # raised it.
        peak = self.peak_bytes()
        row["peak_bytes"] = peak if peak and peak > (peak_before or 0) else None
        if self._is_profiled(batch):
            folder = (
                Path(self.wanted.profile) / f"{network.replace('(', '_').replace(')', '')}_{mode}"
            )
            if self.device.platform != "gpu":
                row |= _profile(folder, run)
            elif ("profile", *job) in self.programs:
                row |= _profile(folder, run, self.programs.pop(("profile", *job)), self.wanted)
            else:
                row["profile_failed"] = gpu_jobs.NO_TIME_LEFT
        return row

    def peak_bytes(self):
        """The most bytes in use on the device since the process began; None where the backend does
        not count.
        """
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")


class Run:
    """Queues the steps of a program, and waits for them.

    Attributes:
        program: may be replaced by another one of the same step.
    """

    def __init__(self, program, mode):
        self.program = program
        self.training = mode == "training"
        self.first, *self.rest = arguments_of(program.args_info[0])

    def step(self):
        if self.training:  # the step takes over the memory of the state it is given
            self.first, self.metrics = self.program(self.first, *self.rest)
        else:
            self.metrics = self.program(self.first, *self.rest)

    def wait(self):
        jax.block_until_ready(self.metrics)


def step_and_shapes(model, mode, shape):
    """The jitted step and the shapes of its arguments: nothing is compiled or held on the device
    for them.
    """
    variables = _variable_shapes(model)
    batch = {
        "clips": jax.ShapeDtypeStruct((*shape, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    }
    if mode == "evaluation":
        batch["weights"] = jax.ShapeDtypeStruct(shape[:1], jnp.float32)
        return jax.jit(make_eval_step(model)), (variables, batch)
    optimizer = optax.sgd(
        1e-6, 0.9
    )  # on one batch again and again larger steps would end at gradients of zero
    state = jax.eval_shape(lambda v: TrainState.create(v, optimizer), variables)
    key = jax.eval_shape(jax.random.key, 1)
    return jax.jit(make_train_step(model, optimizer), donate_argnums=0), (state, batch, key)


def arguments_of(shapes):
    """Arrays of the shapes of a step's arguments. NumPy makes them: to compile `model.init` for a
    GPU takes half a minute.
    """
    random = np.random.default_rng(0)

    def variable(path, leaf):
        name = path[-1].key
        if name == "kernel":
            scale = math.sqrt(
                2 / math.prod(leaf.shape[:-1])
            )  # He's: features keep their size from layer to layer
            return np.float32(scale) * random.standard_normal(leaf.shape, np.float32)
        return np.full(leaf.shape, name in ("scale", "var"), np.float32)

    def variables(tree):
        return jax.tree_util.tree_map_with_path(variable, tree)

    first, batch, *keys = shapes
    if isinstance(first, TrainState):
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), first)
        first = zeros.replace(
            params=variables(first.params), batch_stats=variables(first.batch_stats)
        )
    else:
        first = variables(first)
    clips = batch["clips"].shape
    columns = {
        "clips": random.integers(0, 256, clips, np.uint8),
        "labels": np.arange(clips[0], dtype=np.int32) % gpu_jobs.NUM_CLASSES,
        "weights": np.ones(clips[0], np.float32),
    }
    return jax.device_put(
        (first, {name: columns[name] for name in batch}, *(jax.random.key(1) for _ in keys))
    )


def _model(network):
    return create_model(gpu_jobs.NUM_CLASSES, dtype=jnp.bfloat16, **gpu_jobs.NETWORKS[network])


@functools.cache
def _variable_shapes(model):
    return jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, 64, 64, 3), jnp.float32)
    )


@functools.cache
def _macs(network, clip):
    return complexity.count(_model(network), clip).macs


def _compile(lowered, options=None):
    start = time.perf_counter()
    return lowered.compile(options), time.perf_counter() - start


def _profile(folder, run, without_graphs=None, wanted=None, steps=3, top=15):
    """Traces a few steps and lists all kernels in the folder.

    Args:
        without_graphs: future of another program of the step, to be timed and traced in place of
            `run.program`.

    Returns:
        The kernels that take longest, the seconds of all and the seconds of a step without CUDA
        graphs; or a note of what went wrong.
    """
    row = {}
    try:
        if without_graphs:
            run.program, _ = without_graphs.result()
            row["seconds_without_graphs"] = gpu_jobs.seconds_per_step(run.step, run.wait, wanted)
        with jax.profiler.trace(str(folder)):
            for _ in range(steps):
                run.step()
            run.wait()
        kernels = gpu_trace.kernels(folder, run.program.as_text(), steps)
        gpu_trace.write_csv(folder / "kernels.csv", kernels)
    # whatever a profiler lacks on this machine, the times are measured and worth keeping
    except Exception as error:
        return row | {"profile_failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    return row | {
        "kernels": kernels[:top],
        "kernel_seconds": sum(kernel["seconds"] for kernel in kernels),
    }


def _is_out_of_memory(error):
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def main():
    wanted = gpu_jobs.options()
    measurer = Measurer(wanted)
    versions = f"jax {jax.__version__}, flax {flax.__version__}"
    gpu_jobs.emit(device=measurer.device.device_kind, versions=versions)
    status = 1
    try:
        measurer.compile()
        gpu_jobs.sweep(wanted, measurer, _is_out_of_memory)
        status = 0
    except Exception:
        traceback.print_exc()
    os._exit(
        status
    )  # a normal end would wait for the threads that still compile; every row has been flushed


if __name__ == "__main__":
    main()
