"""Times attention's single operations at the stages of ResNet-50, beside a copy of the feature.

    python -m benchmarks.passes                           # forward, one clip of 8x224x224
    python -m benchmarks.passes --gradient --clips 2      # forward and gradient, as in training
    python -m benchmarks.passes --only stencil

Each is compiled on its own, and they take turns. Prints the median milliseconds of a call and, in
brackets, how many copies of the feature take as long. In a network an operation reads what the one
before it left in the caches, so it may be faster there.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from aia_jax.compile_cache import compiler_options
from aia_jax.ops import normalize_batch_sigmoid, stencil
from aia_jax.ops.axis_attention.gating import apply_gates, pool_axes

# Height (and width) and channels of the feature behind a bottleneck's second convolution, by stage,
# for frames of 224x224.
STAGES = ((56, 64), (28, 128), (14, 256), (7, 512))
AXES = {"T": 1, "H": 2, "W": 3, "C": 4}  # of [B, T, H, W, C]
C, ST = (4,), (1, 2, 3)  # the axes that the units of C and of ST pool


def list_passes(x):
    """Name → (function, operands), for a feature x [B, T, H, W, C]."""
    planes = {axis: x.mean(axis) for axis in AXES.values()}
    gates = {axes: tuple(jax.nn.sigmoid(planes[axis]) for axis in axes) for axes in (C, ST)}
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 2))
    passes = {"copy": (lambda x: x + 1, (x,))}
    for name, axis in AXES.items():
        passes[f"pool over {name}"] = (lambda x, axis=axis: pool_axes(x, (), (), (axis,)), (x,))
    passes["pools over T, H, W of x · gate of C"] = (
        lambda x, g: pool_axes(x, g, C, ST),
        (x, gates[C]),
    )
    passes["pool over C of x · gates of T, H, W"] = (
        lambda x, g: pool_axes(x, g, ST, C),
        (x, gates[ST]),
    )
    passes["x · gate of C"] = (lambda x, g: apply_gates(x, g, C), (x, gates[C]))
    passes["x · gates of T, H, W"] = (lambda x, g: apply_gates(x, g, ST), (x, gates[ST]))
    for name, axis in AXES.items():
        passes[f"stencil on the pair over {name}"] = (stencil, (planes[axis], planes[axis], kernel))
    for name, axis in AXES.items():
        passes[f"statistics and gate of {name}"] = (
            normalize,
            (planes[axis][..., None], jnp.ones(1), jnp.zeros(1)),
        )
    return passes


def normalize(response, scale, bias):
    return normalize_batch_sigmoid(response, scale, bias, 1, 1e-5)[0]


def with_gradient(function):
    """The function and its gradient in one call; its results serve as their own cotangents."""

    def forward_and_gradient(*operands):
        results, pull = jax.vjp(function, *operands)
        return results, pull(results)

    return forward_and_gradient


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.passes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument(
        "--gradient", action="store_true", help="forward and gradient, not only forward"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="passes whose name contains TEXT, and the copy"
    )
    parser.add_argument(
        "--repeats", type=int, default=50, help="rounds, in which each pass is called once"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()

    table, sizes = {}, []
    for side, channels in STAGES:
        x = jax.random.normal(
            jax.random.key(0),
            (options.clips, options.frames, side, side, channels),
            jnp.dtype(options.dtype),
        )
        sizes.append(f"{side}²×{channels}")
        calls = {}
        for name, (function, operands) in list_passes(x).items():
            if name == "copy" or options.only in name:
                if options.gradient and name != "copy":
                    function = with_gradient(function)
                compiled = (
                    jax.jit(function, compiler_options=compiler_options())
                    .lower(*operands)
                    .compile()
                )
                calls[name] = lambda compiled=compiled, operands=operands: jax.block_until_ready(
                    compiled(*operands)
                )
        seconds = {name: [] for name in calls}
        for _ in range(options.repeats):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        for name, times in seconds.items():
            copies = statistics.median(a / b for a, b in zip(times, seconds["copy"], strict=True))
            table.setdefault(name, []).append(
                f"{1e3 * statistics.median(times):.2f} ({copies:.1f})"
            )

    measured = "forward and gradient" if options.gradient else "forward"
    print(
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {options.clips}×{options.frames} "
        f"frames, {options.dtype}, {measured}, ms"
    )
    print(f"{'pass':36}" + "".join(f"{size:>16}" for size in sizes))
    for name, cells in table.items():
        print(f"{name:36}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
