"""Measures a training step of TSM, of TSN with attention and of SV-Mix: time, memory, compilation.

    python -m benchmarks.training                     # ResNet-50, 2 clips of 8x224x224
    python -m benchmarks.training --method svmix      # plain TSN, supervised and by SV-Mix

The step is that of train.py (forward, backward, SGD; donated state). The networks take turns, each
in a process of its own. Ratios are to plain TSN: the median over rounds, and that of the shortest
times.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import optax

from aia_jax import create_model
from aia_jax.compile_cache import compiler_options
from aia_jax.training.methods import svmix
from aia_jax.training.methods.supervised import make_train_step
from aia_jax.training.objective import Objective
from aia_jax.training.state import TrainState
from benchmarks import results, turns

NETWORKS = {
    "TSN": {},
    "TSM": {"temporal": "tsm"},
    "TSN + CinST->STinC": {"attention": "CinST->STinC"},
}
CLASSES = 174


def prepare_step(fields, method, clip, dtype, xla_defaults):
    """A call that takes one step; the seconds of compiling, bytes of temporary memory, device."""
    model = create_model(CLASSES, dtype=jnp.dtype(dtype), **fields)
    optimizer = optax.sgd(0.01, 0.9)
    clips = jax.random.randint(jax.random.key(2), (*clip, 3), 0, 256, jnp.uint8)
    batch = {"clips": clips, "labels": jnp.arange(clips.shape[0], dtype=jnp.int32)}
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *clip[1:], 3)))
    key = jax.random.key(1)
    if method == "svmix":
        module_tx = svmix.make_module_optimizer(0.05)
        state = jax.jit(lambda v: svmix.create_state(model, optimizer, module_tx, v, key))(
            variables
        )
        step = svmix.make_svmix_step(model, optimizer, module_tx, Objective(CLASSES, 0.1))
    else:
        state = jax.jit(lambda v: TrainState.create(v, optimizer))(variables)
        step = make_train_step(model, optimizer)
    compiler = {} if xla_defaults else compiler_options()
    step = jax.jit(step, donate_argnums=0, compiler_options=compiler)
    start = time.perf_counter()
    compiled = step.lower(state, batch, key).compile()
    facts = {
        "compiling": time.perf_counter() - start,
        "memory": compiled.memory_analysis().temp_size_in_bytes,
        "device": jax.devices()[0].device_kind,
    }
    holder = [state]

    def call():
        holder[0], metrics = compiled(holder[0], batch, key)
        metrics["loss"].block_until_ready()

    return call, facts


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clip", type=int, nargs=4, default=[2, 8, 224, 224], metavar=("B", "T", "H", "W")
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="rounds, in which each network takes one step"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--xla_defaults",
        action="store_true",
        help="compile as a plain jax.jit does, not as train.py does",
    )
    parser.add_argument(
        "--method",
        default="supervised",
        choices=["supervised", "svmix"],
        help="svmix: plain TSN by this method instead of the other networks",
    )
    results.add_option(parser)
    options = parser.parse_args()

    rows = {name: (fields, "supervised") for name, fields in NETWORKS.items()}
    if options.method == "svmix":
        rows = {"TSN": ({}, "supervised"), "TSN by SV-Mix": ({}, "svmix")}
    arguments = {
        name: (*row, options.clip, options.dtype, options.xla_defaults)
        for name, row in rows.items()
    }
    seconds, facts = turns.time_in_turns(prepare_step, arguments, options.repeats)

    print(
        f"{facts['TSN']['device']}, jax {jax.__version__}, clips {options.clip}, {options.dtype}, "
        f"{options.repeats} rounds"
    )
    heads = (
        ("median ms", 10),
        ("least ms", 10),
        ("x TSN", 7),
        ("of least", 9),
        ("compile s", 10),
        ("memory MB", 10),
        ("x TSN", 7),
    )
    print(f"{'network':24} {' '.join(f'{head:>{width}}' for head, width in heads)}")
    plain = facts["TSN"]
    for name, times in seconds.items():
        ratio, least = turns.median_ratio(times, seconds["TSN"]), min(times) / min(seconds["TSN"])
        compiling, memory = facts[name]["compiling"], facts[name]["memory"]
        print(
            f"{name:24} {1e3 * statistics.median(times):10.0f} {1e3 * min(times):10.0f} "
            f"{ratio:7.3f} {least:9.3f} {compiling:10.1f} "
            f"{memory / 1e6:10.0f} {memory / plain['memory']:7.3f}"
        )
        if name != "TSN":
            results.write(
                options.json,
                f"training step, {name}",
                f"{1e3 * statistics.median(times):.0f} ms",
                "plain TSN",
                ratio,
            )
            results.write(
                options.json,
                f"its memory, {name}",
                f"{memory / 1e6:.0f} MB",
                "plain TSN",
                memory / plain["memory"],
            )
            results.write(
                options.json,
                f"its compilation, {name}",
                f"{compiling:.1f} s",
                "plain TSN",
                compiling / plain["compiling"],
            )


if __name__ == "__main__":
    main()
