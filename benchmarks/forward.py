"""Times a forward pass of TSM and of TSN with attention against plain TSN.

    python -m benchmarks.forward                      # TSN, TSM, CinST->STinC, one 8x224x224 clip
    python -m benchmarks.forward --attention C ST CinST
    python -m benchmarks.forward --repeats 100        # tells 2% apart on a noisy machine

The networks take turns, each in a process of its own. Prints the time of a call and its ratio to
plain TSN's: the median over rounds, as a busy machine slows both alike, and the ratio of the
shortest times.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from aia_jax import create_model
from aia_jax.compile_cache import compiler_options
from benchmarks import results, turns


def prepare_forward(fields, clip, dtype, xla_defaults):
    """A call of the compiled network; the seconds that compiling took, and the device's name."""
    model = create_model(174, dtype=jnp.dtype(dtype), **fields)
    clips = jax.random.normal(jax.random.key(1), (*clip, 3))
    variables = jax.jit(model.init)(jax.random.key(0), clips[:1])
    compiler = {} if xla_defaults else compiler_options()
    start = time.perf_counter()
    forward = (
        jax.jit(lambda v, x: model.apply(v, x), compiler_options=compiler)
        .lower(variables, clips)
        .compile()
    )
    facts = {"compiling": time.perf_counter() - start, "device": jax.devices()[0].device_kind}
    return lambda: forward(variables, clips).block_until_ready(), facts


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forward",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--attention",
        nargs="+",
        default=["CinST->STinC"],
        help="attention expressions to time on TSN",
    )
    parser.add_argument(
        "--clip", type=int, nargs=4, default=[1, 8, 224, 224], metavar=("B", "T", "H", "W")
    )
    parser.add_argument(
        "--repeats", type=int, default=15, help="rounds, in which each network is called once"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--xla_defaults",
        action="store_true",
        help="compile as a plain jax.jit does, not as eval.py does",
    )
    results.add_option(parser)
    options = parser.parse_args()

    networks = {"TSN": {}, "TSM": {"temporal": "tsm"}} | {
        f"TSN + {a}": {"attention": a} for a in options.attention
    }
    for fields in networks.values():
        create_model(174, **fields)  # reports a wrong expression here, not in a process
    arguments = {
        name: (fields, options.clip, options.dtype, options.xla_defaults)
        for name, fields in networks.items()
    }
    seconds, facts = turns.time_in_turns(prepare_forward, arguments, options.repeats)

    print(
        f"{facts['TSN']['device']}, jax {jax.__version__}, clip {options.clip}, {options.dtype}, "
        f"{options.repeats} rounds"
    )
    print(
        f"{'network':24} {'median ms':>10} {'least ms':>10} {'x TSN':>7} {'of least':>9} "
        f"{'compile s':>10}"
    )
    for name, times in seconds.items():
        ratio, least = turns.median_ratio(times, seconds["TSN"]), min(times) / min(seconds["TSN"])
        print(
            f"{name:24} {1e3 * statistics.median(times):10.1f} {1e3 * min(times):10.1f} "
            f"{ratio:7.3f} {least:9.3f} {facts[name]['compiling']:10.1f}"
        )
        if name != "TSN":
            results.write(
                options.json,
                f"forward, {name}",
                f"{1e3 * statistics.median(times):.0f} ms",
                "plain TSN",
                ratio,
            )


if __name__ == "__main__":
    main()
