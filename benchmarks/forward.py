"""What attention and shift cost in a forward pass: every network against plain TSN, in turns, in one process.

    python benchmarks/forward.py                              # TSN, TSM, CinST->STinC on one 8x224x224 clip
    python benchmarks/forward.py --attention C ST CinST

Prints the median time of a call and the ratio to plain TSN, pair by pair (median of ratios): a busy machine disturbs both sides
alike.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import results

from aia_jax import create_model
from aia_jax.cpu_compiler import compiler_options


def compiled_forward(model, clips, compiler):
    """The compiled network with its variables bound, and the seconds that compiling took."""
    variables = jax.jit(model.init)(jax.random.key(0), clips[:1, :1, :64, :64])
    start = time.perf_counter()
    forward = jax.jit(lambda v, x: model.apply(v, x), compiler_options=compiler).lower(variables, clips).compile()
    return lambda: forward(variables, clips).block_until_ready(), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attention", nargs="+", default=["CinST->STinC"], help="attention expressions to time on TSN")
    parser.add_argument("--clip", type=int, nargs=4, default=[1, 8, 224, 224], metavar=("B", "T", "H", "W"))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--xla_defaults", action="store_true", help="compile as a plain jax.jit does, not as eval.py does")
    results.add_option(parser)
    options = parser.parse_args()

    dtype = jnp.dtype(options.dtype)
    clips = jax.random.normal(jax.random.key(1), (*options.clip, 3))
    networks = {"TSN": create_model(174, dtype=dtype), "TSM": create_model(174, temporal="tsm", dtype=dtype)}
    networks |= {f"TSN + {a}": create_model(174, attention=a, dtype=dtype) for a in options.attention}

    compiler = {} if options.xla_defaults else compiler_options()
    calls, compile_seconds = {}, {}
    for name, model in networks.items():
        calls[name], compile_seconds[name] = compiled_forward(model, clips, compiler)
        calls[name]()
    seconds = {name: [] for name in networks}
    for _ in range(options.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)

    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, clip {options.clip}, {options.dtype}, {options.repeats} rounds")
    print(f"{'network':24} {'median ms':>10} {'least ms':>10} {'x TSN':>7} {'compile s':>10}")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["TSN"], strict=True))
        print(f"{name:24} {1e3 * statistics.median(times):10.1f} {1e3 * min(times):10.1f} {ratio:7.3f} {compile_seconds[name]:10.1f}")
        if name != "TSN":
            results.write(options.json, f"forward, {name}", f"{1e3 * statistics.median(times):.0f} ms", "plain TSN", ratio)


if __name__ == "__main__":
    main()
