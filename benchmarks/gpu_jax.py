"""The JAX side of gpu.py, which starts it: this project's own training and evaluation steps.

Of what the project installs it needs jax, flax and optax only. One process measures all networks,
so that ratios are of one run. First it compiles the programs of all steps side by side, because
XLA's passes over one program keep only one core busy; then it measures each step.
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
from aia_jax.evaluation.step import make_eval_step
from aia_jax.training.methods.supervised import make_train_step
from aia_jax.training.state import TrainState
from benchmarks import gpu_jobs, gpu_trace

# In a trace a CUDA graph is one event, without the names of its kernels.
NO_GRAPHS = {"xla_gpu_enable_command_buffer": ""}


class Measurer:
    """Compiles, times and profiles the steps.

    Attributes:
        settings: those of `gpu_jobs.read_settings`.
        device: where all steps run.
        programs: job → future of (program, seconds that compiling took). The key ("profile", *job)
            has the program to trace.
    """

    def __init__(self, settings):
        self.settings = settings
        self.device = jax.devices()[0]
        self.programs = {}

    def compile(self):
        """Compiles all programs side by side, small batches first.

        It stops when the time left is needed to measure what has been compiled; `programs` then
        holds only finished programs.
        """
        start = time.perf_counter()
        pool = ThreadPoolExecutor(os.cpu_count())
        for network, mode, batch in gpu_jobs.jobs(self.settings):
            if self._seconds_to_wait() < 0:
                break
            step, shapes = make_step(_create_model(network), mode, (batch, *self.settings.clip))
            lowered = step.lower(*shapes)
            self.programs[network, mode, batch] = pool.submit(_compile, lowered)
            if self._is_profiled(batch) and self.device.platform == "gpu":
                self.programs["profile", network, mode, batch] = pool.submit(
                    _compile, lowered, NO_GRAPHS
                )
        started = self.programs
        while (left := [future for future in started.values() if not future.done()]) and (
            seconds := self._seconds_to_wait()
        ) > 0:
            wait(left, timeout=seconds, return_when=FIRST_COMPLETED)
        pool.shutdown(wait=False, cancel_futures=True)
        self.programs = {
            job: future
            for job, future in started.items()
            if future.done() and not future.cancelled()
        }
        seconds = time.perf_counter() - start
        gpu_jobs.emit(
            note=f"{len(self.programs)} of {len(started)} programs compiled side by side in "
            f"{seconds:.0f} s"
        )

    def _seconds_to_wait(self):
        """The seconds until the deadline, less what measuring the compiled programs will take."""
        compiled = sum(future.done() for future in self.programs.values())
        return (
            self.settings.deadline
            - time.time()
            - compiled * gpu_jobs.seconds_to_measure(self.settings)
        )

    def _is_profiled(self, batch):
        return self.settings.profile and batch == min(self.settings.batches)

    def __call__(self, network, mode, batch):
        """Measures a job.

        Returns:
            "seconds" of a step, "compile_seconds", "macs" (multiply-accumulates of a clip),
            "bytes_accessed" by a step as XLA counts them, "program_bytes" that the program needs,
            "peak_bytes" of the process if this step raised it, and the results of `_profile`; or
            why the job was not measured as "failed".
        """
        job = (network, mode, batch)
        if job not in self.programs:
            return {"failed": gpu_jobs.NO_TIME_LEFT}
        program, compile_seconds = self.programs.pop(job).result()
        peak_before = self.peak_bytes()
        run = Run(program, mode)
        row = {
            "seconds": gpu_jobs.seconds_per_step(run.step, run.wait, self.settings),
            "compile_seconds": compile_seconds,
        }
        row["macs"] = _count_macs(network, (*self.settings.clip, 3))
        row["bytes_accessed"] = (program.cost_analysis() or {}).get("bytes accessed")
        memory = program.memory_analysis()
        row["program_bytes"] = memory and (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )
        # The allocator's peak is of the whole process: this step's only if the step has raised it.
        peak = self.peak_bytes()
        row["peak_bytes"] = peak if peak and peak > (peak_before or 0) else None
        if self._is_profiled(batch):
            folder = (
                Path(self.settings.profile) / f"{network.replace('(', '_').replace(')', '')}_{mode}"
            )
            if self.device.platform != "gpu":
                row |= _profile(folder, run)
            elif ("profile", *job) in self.programs:
                row |= _profile(folder, run, self.programs.pop(("profile", *job)), self.settings)
            else:
                row["profile_failed"] = gpu_jobs.NO_TIME_LEFT
        return row

    def peak_bytes(self):
        """The most bytes in use on the device so far; None where the backend does not count."""
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")


class Run:
    """Queues the steps of a program, and waits for them.

    Attributes:
        program: the compiled step. Another program of the same step may take its place.
    """

    def __init__(self, program, mode):
        self.program = program
        self.training = mode == "training"
        self.first, *self.rest = make_arguments(program.args_info[0])

    def step(self):
        if self.training:  # the old state is donated: only the new one may be used again
            self.first, self.metrics = self.program(self.first, *self.rest)
        else:
            self.metrics = self.program(self.first, *self.rest)

    def wait(self):
        jax.block_until_ready(self.metrics)


def make_step(model, mode, shape):
    """The jitted step and the shapes of its arguments, without compiling or allocating anything.

    Args:
        model: the network.
        mode: one of `gpu_jobs.MODES`.
        shape: [B, T, H, W] of the clips.
    """
    variables = _variable_shapes(model)
    batch = {
        "clips": jax.ShapeDtypeStruct((*shape, 3), jnp.uint8),
        "labels": jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    }
    if mode == "evaluation":
        batch["weights"] = jax.ShapeDtypeStruct(shape[:1], jnp.float32)
        return jax.jit(make_eval_step(model)), (variables, batch)
    # A small rate: with a larger one, training on one batch would end at gradients of zero.
    optimizer = optax.sgd(1e-6, 0.9)
    state = jax.eval_shape(lambda v: TrainState.create(v, optimizer), variables)
    key = jax.eval_shape(jax.random.key, 1)
    return jax.jit(make_train_step(model, optimizer), donate_argnums=0), (state, batch, key)


def make_arguments(shapes):
    """Arrays of the shapes of a step's arguments, on the device.

    NumPy makes them, because `model.init` would take half a minute to compile for a GPU.
    """
    random = np.random.default_rng(0)

    def variable(path, leaf):
        name = path[-1].key
        if name == "kernel":
            # He's: activations keep their scale from layer to layer.
            scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
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


def _create_model(network):
    return create_model(gpu_jobs.NUM_CLASSES, dtype=jnp.bfloat16, **gpu_jobs.NETWORKS[network])


@functools.cache
def _variable_shapes(model):
    return jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, 64, 64, 3), jnp.float32)
    )


@functools.cache
def _count_macs(network, clip):
    return complexity.count(_create_model(network), clip).macs


def _compile(lowered, options=None):
    start = time.perf_counter()
    return lowered.compile(options), time.perf_counter() - start


def _profile(folder, run, without_graphs=None, settings=None, steps=3, top=15):
    """Traces a few steps and writes all their kernels into `folder`.

    Args:
        folder: for the trace and kernels.csv.
        run: the `Run` of the step.
        without_graphs: future of the same step's program without CUDA graphs, which is then timed
            and traced in place of `run.program`.
        settings: for timing it.
        steps: how many to trace.
        top: how many kernels to return.

    Returns:
        The "kernels" that take longest, the "kernel_seconds" of all, and
        "seconds_without_graphs" of a step; or what went wrong as "profile_failed".
    """
    row = {}
    try:
        if without_graphs:
            run.program, _ = without_graphs.result()
            row["seconds_without_graphs"] = gpu_jobs.seconds_per_step(run.step, run.wait, settings)
        with jax.profiler.trace(str(folder)):
            for _ in range(steps):
                run.step()
            run.wait()
        kernels = gpu_trace.read_kernels(folder, run.program.as_text(), steps)
        gpu_trace.write_csv(folder / "kernels.csv", kernels)
    # A profiler may lack anything on this machine. The times have been measured: they are kept.
    except Exception as error:
        return row | {"profile_failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    return row | {
        "kernels": kernels[:top],
        "kernel_seconds": sum(kernel["seconds"] for kernel in kernels),
    }


def _is_out_of_memory(error):
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def main():
    settings = gpu_jobs.read_settings()
    measurer = Measurer(settings)
    versions = f"jax {jax.__version__}, flax {flax.__version__}"
    gpu_jobs.emit(device=measurer.device.device_kind, versions=versions)
    status = 1
    try:
        measurer.compile()
        gpu_jobs.sweep(settings, measurer, _is_out_of_memory)
        status = 0
    except Exception:
        traceback.print_exc()
    # A normal end would wait for the threads that still compile. Every row has been flushed.
    os._exit(status)


if __name__ == "__main__":
    main()
