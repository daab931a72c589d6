"""The JAX side of gpu.py, which starts it: this project's own training and evaluation steps.

Needs jax, flax and optax only, of what the project installs. One process for all networks, so that ratios are of one run.
"""

import time
from pathlib import Path

import flax
import gpu_jobs
import gpu_trace
import jax
import jax.numpy as jnp
import optax

from aia_jax import complexity, create_model
from aia_jax.training.state import TrainState
from aia_jax.training.step import make_eval_step, make_train_step


class Measurer:
    """Makes, times and profiles the steps.

    Attributes:
        wanted: of `gpu_jobs.options`.
    """

    def __init__(self, wanted):
        self.wanted = wanted
        self.device = jax.devices()[0]

    def __call__(self, network, mode, batch):
        """Seconds a step and to compile; multiply-accumulates a clip; bytes that a step accesses, the program holds, the process held."""
        model = create_model(gpu_jobs.NUM_CLASSES, dtype=jnp.bfloat16, **gpu_jobs.NETWORKS[network])
        peak_before = self.peak_bytes()
        step, arguments = step_and_arguments(model, mode, (batch, *self.wanted.clip))
        start = time.perf_counter()
        compiled = step.lower(*arguments).compile()
        compile_seconds = time.perf_counter() - start
        step, wait = _runner(mode, compiled, arguments)
        del arguments  # the step donates what it was given
        row = {"seconds": gpu_jobs.seconds_per_step(step, wait, self.wanted), "compile_seconds": compile_seconds}
        row["macs"] = complexity.count(model, (*self.wanted.clip, 3)).macs
        row["bytes_accessed"] = (compiled.cost_analysis() or {}).get("bytes accessed")
        memory = compiled.memory_analysis()
        row["program_bytes"] = memory and (
            memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes
        )
        # The allocator's peak is the process's: it says something about this step only if this step raised it.
        peak = self.peak_bytes()
        row["peak_bytes"] = peak if peak and peak > (peak_before or 0) else None
        if self.wanted.profile and batch == min(self.wanted.batches):
            folder = Path(self.wanted.profile) / f"{network.replace('(', '_').replace(')', '')}_{mode}"
            row |= _profile(folder, step, wait, compiled.as_text())
        return row

    def peak_bytes(self):
        """The most bytes in use on the device since the process began; None where the backend does not count."""
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")


def step_and_arguments(model, mode, shape):
    """The jitted step and its first arguments."""
    clips = jax.random.randint(jax.random.key(2), (*shape, 3), 0, 256, jnp.uint8)
    batch = {"clips": clips, "labels": jnp.arange(shape[0], dtype=jnp.int32) % gpu_jobs.NUM_CLASSES}
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))
    if mode == "evaluation":
        batch["weights"] = jnp.ones(shape[0])
        return jax.jit(make_eval_step(model)), (variables, batch)
    optimizer = optax.sgd(0.01, 0.9)
    state = jax.jit(lambda v: TrainState.create(v, optimizer))(variables)
    return jax.jit(make_train_step(model, optimizer), donate_argnums=0), (state, batch, jax.random.key(1))


def _runner(mode, compiled, arguments):
    """A call that queues one step, and one that waits for all that are queued."""
    first, *rest = arguments
    last = {"state": first}

    def step():
        if mode == "training":
            last["state"], last["metrics"] = compiled(last["state"], *rest)
        else:
            last["metrics"] = compiled(first, *rest)

    def wait():
        jax.block_until_ready(last["metrics"])

    return step, wait


def _profile(folder, step, wait, program, steps=3):
    """Traces a few steps; the kernels that take longest, per step, and the seconds of all, or a note of what went wrong."""
    try:
        with jax.profiler.trace(str(folder)):
            for _ in range(steps):
                step()
            wait()
        kernels, seconds = gpu_trace.top_kernels(folder, program, steps)
    except Exception as error:  # whatever a profiler lacks on this machine, the times are measured and worth keeping
        return {"profile_failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"kernels": kernels, "kernel_seconds": seconds}


def _is_out_of_memory(error):
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def main():
    wanted = gpu_jobs.options()
    measurer = Measurer(wanted)
    versions = f"jax {jax.__version__}, flax {flax.__version__}"
    gpu_jobs.emit(device=measurer.device.device_kind, versions=versions)
    gpu_jobs.sweep(wanted, measurer, _is_out_of_memory)


if __name__ == "__main__":
    main()
