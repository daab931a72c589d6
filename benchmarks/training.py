"""What attention and shift cost in a training step: time, memory and compilation, against plain TSN in one process.

    python benchmarks/training.py                             # 2 clips of 8x224x224, ResNet-50

The step is the real one (forward, backward, SGD; donated state). Networks take turns, and ratios are medians over pairs.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import optax
import results

from aia_jax import create_model
from aia_jax.cpu_compiler import compiler_options
from aia_jax.training.state import TrainState
from aia_jax.training.step import make_train_step

NETWORKS = {"TSN": ("tsn", "none"), "TSM": ("tsm", "none"), "TSN + CinST->STinC": ("tsn", "CinST->STinC")}


def prepared_step(temporal, attention, clips, dtype, compiler):
    """A call that takes one step, the seconds that compiling took, and the bytes of temporary memory."""
    model = create_model(174, temporal=temporal, attention=attention, dtype=dtype)
    optimizer = optax.sgd(0.01, 0.9)
    batch = {"clips": clips, "labels": jnp.arange(clips.shape[0], dtype=jnp.int32)}
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1, 64, 64, 3)))
    state = jax.jit(lambda v: TrainState.create(v, optimizer))(variables)
    step = jax.jit(make_train_step(model, optimizer), donate_argnums=0, compiler_options=compiler)
    key = jax.random.key(1)
    start = time.perf_counter()
    compiled = step.lower(state, batch, key).compile()
    seconds = time.perf_counter() - start
    holder = [state]

    def call():
        holder[0], metrics = compiled(holder[0], batch, key)
        metrics["loss"].block_until_ready()

    return call, seconds, compiled.memory_analysis().temp_size_in_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=int, nargs=4, default=[2, 8, 224, 224], metavar=("B", "T", "H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--xla_defaults", action="store_true", help="compile as a plain jax.jit does, not as train.py does")
    results.add_option(parser)
    options = parser.parse_args()

    clips = jax.random.randint(jax.random.key(2), (*options.clip, 3), 0, 256, jnp.uint8)
    compiler = {} if options.xla_defaults else compiler_options()
    steps = {name: prepared_step(*fields, clips, jnp.dtype(options.dtype), compiler) for name, fields in NETWORKS.items()}
    seconds = {name: [] for name in steps}
    for call, _, _ in steps.values():
        call()
    for _ in range(options.repeats):
        for name, (call, _, _) in steps.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)

    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, clips {options.clip}, {options.dtype}, {options.repeats} rounds")
    print(f"{'network':24} {'median ms':>10} {'x TSN':>7} {'compile s':>10} {'memory MB':>10} {'x TSN':>7}")
    plain_memory = steps["TSN"][2]
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["TSN"], strict=True))
        _, compiling, memory = steps[name]
        print(
            f"{name:24} {1e3 * statistics.median(times):10.0f} {ratio:7.3f} {compiling:10.1f} {memory / 1e6:10.0f} "
            f"{memory / plain_memory:7.3f}"
        )
        if name != "TSN":
            results.write(options.json, f"training step, {name}", f"{1e3 * statistics.median(times):.0f} ms", "plain TSN", ratio)
            results.write(options.json, f"its memory, {name}", f"{memory / 1e6:.0f} MB", "plain TSN", memory / plain_memory)
            results.write(options.json, f"its compilation, {name}", f"{compiling:.1f} s", "plain TSN", compiling / steps["TSN"][1])


if __name__ == "__main__":
    main()
