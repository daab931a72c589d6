"""Times a forward pass against the same networks in plain PyTorch.

    python -m benchmarks.against_torch          # TSN, TSN + CinST->STinC, one 8x224x224 clip
    python -m benchmarks.against_torch --cores 1

Both sides have the same CPU, cores and weights, float32, and BatchNorm by its running statistics.
PyTorch (tests/helpers/torch_nets.py) runs eagerly under `inference_mode`, with its frames in either
memory layout; the ratio is PyTorch's time in its faster layout over this project's. Prints how far
the logits of both sides differ. Needs torch (the dev extra).
"""

import argparse
import os
import statistics
import time

from benchmarks import results


def list_networks(attention):
    """Name → arguments of the network on both sides."""
    return {"TSN": {"attention": "none"}, f"TSN + {attention}": {"attention": attention}}


def prepare_calls(arguments, clips):
    """Side → call of one network with the same weights, and the logits' relative difference.

    The sides are this project and PyTorch in each memory layout.
    """
    import jax
    import numpy as np
    import torch

    from aia_jax import create_model
    from aia_jax.compile_cache import compiler_options
    from aia_jax.weights import from_torch
    from tests.helpers import torch_nets

    torch.manual_seed(0)
    net = torch_nets.VideoNet(174, **arguments).eval()
    model = create_model(174, **arguments)
    variables = jax.device_put(
        from_torch({key: value.numpy() for key, value in net.state_dict().items()}, model)
    )
    forward = (
        jax.jit(lambda v, x: model.apply(v, x), compiler_options=compiler_options())
        .lower(variables, clips)
        .compile()
    )
    on_device = jax.device_put(clips)
    channels_last = torch.from_numpy(clips)
    # The same [B, T, H, W, 3], but in memory each frame is [3, H, W].
    channels_first = channels_last.movedim(-1, 2).contiguous().movedim(2, -1)

    def run_torch(clips):
        with torch.inference_mode():
            return net(clips)

    expected, found = run_torch(channels_last).numpy(), np.asarray(forward(variables, on_device))
    difference = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return {
        "jax": lambda: forward(variables, on_device).block_until_ready(),
        "torch, channels last": lambda: run_torch(channels_last),
        "torch, channels first": lambda: run_torch(channels_first),
    }, difference


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_torch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--attention", default="CinST->STinC")
    parser.add_argument(
        "--clip", type=int, nargs=4, default=[1, 8, 224, 224], metavar=("B", "T", "H", "W")
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--cores",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="for both sides (all that this process may use)",
    )
    results.add_option(parser)
    options = parser.parse_args()

    # Before jax is imported: XLA makes a thread for every core that it finds at its start.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np
    import torch

    torch.set_num_threads(options.cores)
    clips = np.random.default_rng(0).normal(size=(*options.clip, 3)).astype(np.float32)
    print(
        f"jax {jax.__version__}, torch {torch.__version__}, clip {options.clip}, {options.cores} "
        f"cores, {options.repeats} rounds"
    )
    print(f"{'network':20} {'side':22} {'median ms':>10} {'least ms':>9} {'ours x faster':>14}")
    for name, arguments in list_networks(options.attention).items():
        calls, difference = prepare_calls(arguments, clips)
        seconds = {side: [] for side in calls}
        for call in calls.values():
            call()
        for _ in range(options.repeats):
            for side, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[side].append(time.perf_counter() - start)
        ratios = {}
        for side, times in seconds.items():
            ratios[side] = statistics.median(
                a / b for a, b in zip(times, seconds["jax"], strict=True)
            )
            print(
                f"{name:20} {side:22} {1e3 * statistics.median(times):10.1f} "
                f"{1e3 * min(times):9.1f} {ratios[side]:14.3f}"
            )
        print(f"{name:20} logits differ by {difference:.1e} of their norm", flush=True)
        best = min((side for side in calls if side != "jax"), key=ratios.get)
        results.write(
            options.json,
            f"forward, {name}",
            f"{1e3 * statistics.median(seconds['jax']):.0f} ms",
            best,
            ratios[best],
        )


if __name__ == "__main__":
    main()
