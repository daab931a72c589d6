"""Measures ResNet-50 on a GPU: TSN, TSM and both with attention, in JAX and in PyTorch.

    python -m benchmarks.gpu              # under 10 minutes; names what the time does not allow
    python -m benchmarks.gpu --quick      # 3 minutes: TSN and AIA(TSN), one batch, no torch.compile
    python -m benchmarks.gpu --sides jax --batch 8 16 32 64 128
    python -m benchmarks.gpu --sides jax --networks TSN "AIA(TSN)" --batch 64 --profile traces

Speed, memory and compilation of a training step (forward, backward, SGD) and of an evaluation step,
in bfloat16, on uint8 clips that are already on the device. The JAX side needs jax, flax and optax;
the PyTorch side runs where PyTorch finds a CUDA device. Each side has a process of its own, one
after the other.

"compile s": JAX compiles all programs at once, on all cores, before the first is measured; the time
is that of one program beside the others. PyTorch compiles one at a time; the time is how much
longer its first step took than later ones.
"MFU": 2 operations a multiply-accumulate of `aia_jax.complexity`, three times that in training,
over the device's dense bfloat16 peak.
"GB/s": the bytes that XLA counts for the compiled step ("bytes accessed"; caches may save some)
over the measured time.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.gpu_jobs import NETWORKS

HERE = Path(__file__).parent
# Dense bfloat16, from data sheets. The first name that is part of the device's name counts.
PEAK_TFLOPS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312}
# The part of the time after which JAX must be done. PyTorch has the rest.
JAX_FRACTION = 0.6
# Larger with --quick: fewer programs compile no faster side by side, and PyTorch compiles none.
QUICK_JAX_FRACTION = 0.75


def run_side(program: str, settings: dict) -> list[dict]:
    """Starts one side, prints its rows as they come, and returns them.

    The process is killed half a minute after its deadline.
    """
    environment = dict(os.environ)
    environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE.parent), environment.get("PYTHONPATH")])
    )
    command = [sys.executable, "-m", f"benchmarks.{program}", json.dumps(settings)]
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        limit = threading.Timer(max(1.0, settings["deadline"] + 30 - time.time()), child.kill)
        limit.start()
        for line in child.stdout:
            if line.startswith("{"):
                rows.append(json.loads(line))
                print(describe(rows[-1]), flush=True)
        limit.cancel()
    if child.returncode:
        ended = f"failed with status {child.returncode}"
        if time.time() > settings["deadline"]:
            ended = "was ended for time"
        print(f"{program} {ended}; what it measured before is kept", flush=True)
    return rows


def describe(row: dict) -> str:
    """One line for a row that a side has emitted."""
    if "network" not in row:
        return row.get("note") or f"{row['device']}, {row['versions']}"
    job = f"{row.get('variant', 'jax')}: {row['network']}, {row['mode']}, batch {row['batch']}"
    result = row.get("failed") or f"{row['batch'] / row['seconds']:.1f} clips/s"
    return f"{job}: {result}"


def format_table(rows: list[dict], peak_tflops: float | None) -> list[str]:
    """Lines of a table: each measured row beside plain TSN of its side, and JAX's beside PyTorch's.

    Args:
        rows: those that the sides have emitted; rows without "seconds" are left out.
        peak_tflops: the device's, for MFU.
    """
    measured = [row for row in rows if "seconds" in row]
    seconds = {
        (row.get("variant", "jax"), row["mode"], row["batch"], row["network"]): row["seconds"]
        for row in measured
    }
    macs = {row["network"]: row["macs"] for row in measured if "macs" in row}
    lines = [
        f"{'side':9}{'network':10}{'mode':11}{'batch':>6}{'ms':>9}{'clips/s':>9}{'x TSN':>7}"
        f"{'MFU':>7}{'GB/s':>7}{'program GB':>12}{'peak GB':>9}{'compile s':>11}{'x eager':>9}"
        f"{'x compiled':>11}"
    ]
    for row in sorted(
        measured,
        key=lambda row: (
            row["mode"] != "training",
            row["batch"],
            list(NETWORKS).index(row["network"]),
        ),
    ):
        side, key = row.get("variant", "jax"), (row["mode"], row["batch"])
        tsn = seconds.get((side, *key, "TSN"))
        flop = (
            2 * macs.get(row["network"], 0) * row["batch"] * (3 if row["mode"] == "training" else 1)
        )
        eager, compiled = (
            seconds.get((other, *key, row["network"])) if side == "jax" else None
            for other in ("eager", "compiled")
        )
        took, accessed = row["seconds"], row.get("bytes_accessed")
        program, peak = row.get("program_bytes"), row.get("peak_bytes")
        lines.append(
            f"{side:9}{row['network']:10}{row['mode']:11}{row['batch']:6}{1e3 * took:9.1f}"
            f"{row['batch'] / took:9.1f}"
            f"{_format_or_blank(tsn and took / tsn, '7.3f')}"
            f"{_format_or_blank(peak_tflops and flop and flop / took / peak_tflops / 1e12, '7.1%')}"
            f"{_format_or_blank(accessed and accessed / took / 1e9, '7.0f')}"
            f"{_format_or_blank(program and program / 1e9, '12.2f')}"
            f"{_format_or_blank(peak and peak / 1e9, '9.2f')}"
            f"{row['compile_seconds']:11.1f}"
            f"{_format_or_blank(eager and eager / took, '9.2f')}"
            f"{_format_or_blank(compiled and compiled / took, '11.2f')}"
        )
    return lines


def _format_or_blank(value: float | None, spec: str) -> str:
    """The formatted number, or as many blanks where there is none."""
    return format(value, spec) if value else " " * int(spec.split(".")[0])


def format_profiles(rows: list[dict]) -> list[str]:
    """Lines with the kernels of every profiled step, longest first, or why there are none."""
    lines = []
    for row in rows:
        if "kernels" not in row and "profile_failed" not in row:
            continue
        job = f"\n{row['network']}, {row['mode']}, batch {row['batch']}:"
        if not row.get("kernels"):
            reason = "no kernels in the trace"
            if "profile_failed" in row:
                reason = f"the profile failed: {row['profile_failed']}"
            lines.append(f"{job} {reason}")
            continue
        total = row["kernel_seconds"]
        graphs = ""
        if "seconds_without_graphs" in row:
            graphs = f"{1e3 * row['seconds_without_graphs']:.2f} ms without CUDA graphs, "
        lines.append(
            f"{job} {1e3 * row['seconds']:.2f} ms a step, {graphs}{1e3 * total:.2f} ms of kernels"
        )
        lines.append(
            f"{'ms a step':>10}{'share':>7}{'calls':>7}{'MB a call':>11}{'GB/s':>7}  operation"
        )
        for kernel in row["kernels"]:
            size, seconds, calls = kernel["bytes"], kernel["seconds"], kernel["calls"]
            lines.append(
                f"{1e3 * seconds:10.3f}{seconds / total:7.1%}{calls:7.1f}"
                f"{_format_or_blank(size and size / 1e6, '11.1f')}"
                f"{_format_or_blank(size and size * calls / seconds / 1e9, '7.0f')}"
                f"  {kernel['name']}"
            )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS))
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        help="clips a step; small ones first, until memory is full (32 64)",
    )
    parser.add_argument("--clip", type=int, nargs=3, default=[8, 224, 224], metavar=("T", "H", "W"))
    parser.add_argument("--sides", nargs="+", choices=["jax", "torch"], default=["jax", "torch"])
    parser.add_argument(
        "--quick", action="store_true", help="TSN and AIA(TSN) on one batch of 32 in 3 minutes"
    )
    parser.add_argument("--seconds", type=float, help="time for everything (540; 170 with --quick)")
    parser.add_argument(
        "--peak_tflops",
        type=float,
        help="dense bfloat16 peak of the device, for MFU; known for H200, H100, A100",
    )
    parser.add_argument(
        "--profile",
        metavar="DIR",
        help="trace a few steps of JAX's smallest batch there, without CUDA graphs, which hide "
        "names; print the longest kernels, write all in kernels.csv",
    )
    options = parser.parse_args()

    seconds = options.seconds or (170 if options.quick else 540)
    settings = {
        "networks": options.networks or (["TSN", "AIA(TSN)"] if options.quick else list(NETWORKS)),
        "clip": options.clip,
        "batches": options.batch or ([32] if options.quick else [32, 64]),
        "round_seconds": 0.3 if options.quick else 0.5,
        "compiled": not options.quick,
        "profile": options.profile,
    }
    start, rows = time.time(), []
    if "jax" in options.sides:
        fraction = QUICK_JAX_FRACTION if options.quick else JAX_FRACTION
        if "torch" not in options.sides:
            fraction = 1.0
        rows += run_side("gpu_jax", settings | {"deadline": start + fraction * seconds})
    if "torch" in options.sides:
        rows += run_side("gpu_torch", settings | {"deadline": start + seconds})

    device = next((row["device"] for row in rows if "device" in row), "")
    known = next((peak for name, peak in PEAK_TFLOPS.items() if name in device), None)
    peak = options.peak_tflops or known
    print(
        "\n" + "; ".join(f"{row['device']}, {row['versions']}" for row in rows if "device" in row)
    )
    print(
        f"clip {options.clip}, bfloat16, "
        + (f"peak {peak:g} TFLOP/s" if peak else "peak unknown: no MFU (--peak_tflops)")
    )
    missing = [describe(row) for row in rows if "failed" in row]
    print("\n".join(format_table(rows, peak) + missing + format_profiles(rows)))
    return 0 if any("seconds" in row for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
