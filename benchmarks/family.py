"""Measures every network of the recipes against plain TSN: time, memory, compilation.

    python -m benchmarks.family                        # all of them; half an hour on two cores
    python -m benchmarks.family --networks h2cn msca_kv --clip 1 8 112 112

A network and a plain TSN take turns, each in a process of its own: a forward pass, then a training
step as train.py takes it (forward, backward, SGD; donated state). Ratios are to plain TSN, the
median over rounds. H2CN's clips have five frames for each of the T segments.
"""

import argparse
import statistics

import jax

from aia_jax import create_model
from benchmarks import turns
from benchmarks.forward import prepare_forward
from benchmarks.training import prepare_step
from configs.networks import NETWORKS

TSN = "TSN"


def measure(prepare, fields, frames, options):
    """Takes turns with TSN.

    Args:
        prepare: of `turns.time_in_turns`.
        fields: of the network.
        frames: of a segment.
        options: of the command line.

    Returns:
        Milliseconds of a call, its ratio to TSN's, and the facts of both: network, TSN.
    """
    batch, segments, height, width = options.clip
    common = (options.dtype, False)
    arguments = {
        TSN: ({}, options.clip, *common),
        "network": (fields, [batch, segments * frames, height, width], *common),
    }
    seconds, facts = turns.time_in_turns(prepare, arguments, options.repeats)
    milliseconds = 1e3 * statistics.median(seconds["network"])
    ratio = turns.median_ratio(seconds["network"], seconds[TSN])
    return milliseconds, ratio, facts["network"], facts[TSN]


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.family",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        default=[name for name in NETWORKS if name != "tsn"],
        choices=list(NETWORKS),
        metavar="NAME",
        help="rows of configs/networks.py (default: all)",
    )
    parser.add_argument(
        "--clip", type=int, nargs=4, default=[1, 8, 224, 224], metavar=("B", "T", "H", "W")
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()

    print(
        f"jax {jax.__version__}, clips {options.clip}, {options.dtype}, {options.repeats} rounds; "
        "x: over plain TSN"
    )
    heads = ("forward ms", "x", "compile s", "step ms", "x", "memory MB", "x", "compile s", "x")
    print(f"{'network':16}" + "".join(f"{head:>11}" for head in heads), flush=True)
    for name in options.networks:
        fields = dict(NETWORKS[name].fields)
        if fields["name"] == "vit":
            fields["image_size"] = tuple(options.clip[2:])
        frames = create_model(174, **fields).segment_frames
        forward_ms, forward_ratio, facts, _ = measure(prepare_forward, fields, frames, options)
        row = [f"{forward_ms:.0f}", f"{forward_ratio:.2f}", f"{facts['compiling']:.1f}"]
        step_ms, step_ratio, facts, plain = measure(prepare_step, fields, frames, options)
        row += [f"{step_ms:.0f}", f"{step_ratio:.2f}"]
        row += [f"{facts['memory'] / 1e6:.0f}", f"{facts['memory'] / plain['memory']:.2f}"]
        row += [f"{facts['compiling']:.1f}", f"{facts['compiling'] / plain['compiling']:.2f}"]
        print(f"{name:16}" + "".join(f"{cell:>11}" for cell in row), flush=True)


if __name__ == "__main__":
    main()
