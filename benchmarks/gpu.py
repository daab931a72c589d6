"""ResNet-50 on a GPU in one call: speed, memory and compilation of TSN, TSM and both with
attention, in JAX and in PyTorch.

    python -m benchmarks.gpu                        # under 10 minutes; what the time does not allow
    is named python -m benchmarks.gpu --quick                # 3 minutes: TSN and AIA(TSN), one
    batch, PyTorch eager only python -m benchmarks.gpu --sides jax --batch 8 16 32 64 128 python -m
    benchmarks.gpu --sides jax --networks TSN "AIA(TSN)" --batch 64 --profile traces

bfloat16, training step (forward, backward, SGD) and evaluation step, uint8 clips that already are
on the device. The JAX side needs jax, flax and optax; the PyTorch side runs where PyTorch finds a
CUDA device. Each side has a process of its own, one after the other.

"compile s" of JAX is the time of a program beside the others: all are compiled side by side, on all
cores, before the first is measured. PyTorch compiles one at a time; what its first step took longer
than the next is counted. MFU counts 2 operations a multiply-accumulate of `aia_jax.complexity`,
three times that in training, over the device's dense bfloat16 peak. GB/s are the bytes that XLA
counts for the compiled step ("bytes accessed"; caches may save some) over the measured time.
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
PEAK_TFLOPS = {
    "H100 PCIe": 756,
    "H100": 989,
    "H200": 989,
    "A100": 312,
}  # data sheets: dense bfloat16; the first name that fits
JAX_SHARE = 0.6  # of the time; PyTorch has the rest, and what JAX did not need
# the program of AIA(TSN) takes as long to compile as with more beside it, and PyTorch compiles none
QUICK_JAX_SHARE = 0.75


def run_side(program: str, wanted: dict) -> list[dict]:
    """Starts one side, prints its rows as they come and returns them; it is ended half a minute
    after its deadline.
    """
    environment = dict(os.environ)
    environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE.parent), environment.get("PYTHONPATH")])
    )
    command = [sys.executable, "-m", f"benchmarks.{program}", json.dumps(wanted)]
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        limit = threading.Timer(max(1.0, wanted["deadline"] + 30 - time.time()), child.kill)
        limit.start()
        for line in child.stdout:
            if line.startswith("{"):
                rows.append(json.loads(line))
                print(progress(rows[-1]), flush=True)
        limit.cancel()
    if child.returncode:
        ended = (
            "was ended for time"
            if time.time() > wanted["deadline"]
            else f"failed with status {child.returncode}"
        )
        print(f"{program} {ended}; what it measured before is kept", flush=True)
    return rows


def progress(row: dict) -> str:
    if "network" not in row:
        return row.get("note") or f"{row['device']}, {row['versions']}"
    job = f"{row.get('variant', 'jax')}: {row['network']}, {row['mode']}, batch {row['batch']}"
    return (
        f"{job}: {row.get('failed') or format(row['batch'] / row['seconds'], '.1f') + ' clips/s'}"
    )


def table(rows: list[dict], peak_tflops: float | None) -> list[str]:
    """The measured rows, each beside plain TSN of its own side, and JAX's beside PyTorch's."""
    measured = [row for row in rows if "seconds" in row]
    seconds = {
        (row.get("variant", "jax"), row["mode"], row["batch"], row["network"]): row["seconds"]
        for row in measured
    }
    macs = {row["network"]: row["macs"] for row in measured if "macs" in row}
    lines = [
        f"{'side':9}{'network':10}{'mode':11}{'batch':>6}{'ms':>9}{'clips/s':>9}{'x TSN':>7}{'MFU':>7}{'GB/s':>7}"
        f"{'program GB':>12}{'peak GB':>9}{'compile s':>11}{'x eager':>9}{'x compiled':>11}"
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
        lines.append(
            f"{side:9}{row['network']:10}{row['mode']:11}{row['batch']:6}{1e3 * row['seconds']:9.1f}{row['batch'] / row['seconds']:9.1f}"
            f"{_cell(tsn and row['seconds'] / tsn, '7.3f')}"
            f"{_cell(peak_tflops and flop and flop / row['seconds'] / peak_tflops / 1e12, '7.1%')}"
            f"{_cell(row.get('bytes_accessed') and row['bytes_accessed'] / row['seconds'] / 1e9, '7.0f')}"
            f"{_cell(row.get('program_bytes') and row['program_bytes'] / 1e9, '12.2f')}"
            f"{_cell(row.get('peak_bytes') and row['peak_bytes'] / 1e9, '9.2f')}"
            f"{row['compile_seconds']:11.1f}"
            f"{_cell(eager and eager / row['seconds'], '9.2f')}{_cell(compiled and compiled / row['seconds'], '11.2f')}"
        )
    return lines


def _cell(value: float | None, form: str) -> str:
    """The number, or blanks where there is none."""
    return format(value, form) if value else " " * int(form.split(".")[0])


def profiles(rows: list[dict]) -> list[str]:
    """The kernels of every profiled step, those that took longest first, or why there are none."""
    lines = []
    for row in rows:
        if "kernels" not in row and "profile_failed" not in row:
            continue
        job = f"\n{row['network']}, {row['mode']}, batch {row['batch']}:"
        if not row.get("kernels"):
            reason = (
                f"the profile failed: {row['profile_failed']}"
                if "profile_failed" in row
                else "no kernels in the trace"
            )
            lines.append(f"{job} {reason}")
            continue
        total = row["kernel_seconds"]
        graphs = (
            f"{1e3 * row['seconds_without_graphs']:.2f} ms without CUDA graphs, "
            if "seconds_without_graphs" in row
            else ""
        )
        lines.append(
            f"{job} {1e3 * row['seconds']:.2f} ms a step, {graphs}{1e3 * total:.2f} ms of kernels"
        )
        lines.append(
            f"{'ms a step':>10}{'share':>7}{'calls':>7}{'MB a call':>11}{'GB/s':>7}  operation"
        )
        for kernel in row["kernels"]:
            size, seconds, calls = kernel["bytes"], kernel["seconds"], kernel["calls"]
            lines.append(
                f"{1e3 * seconds:10.3f}{seconds / total:7.1%}{calls:7.1f}{_cell(size and size / 1e6, '11.1f')}"
                f"{_cell(size and size * calls / seconds / 1e9, '7.0f')}  {kernel['name']}"
            )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
        "names; "
        "print the longest kernels, write all in kernels.csv",
    )
    options = parser.parse_args()

    seconds = options.seconds or (170 if options.quick else 540)
    wanted = {
        "networks": options.networks or (["TSN", "AIA(TSN)"] if options.quick else list(NETWORKS)),
        "clip": options.clip,
        "batches": options.batch or ([32] if options.quick else [32, 64]),
        "round_seconds": 0.3 if options.quick else 0.5,
        "compiled": not options.quick,
        "profile": options.profile,
    }
    start, rows = time.time(), []
    if "jax" in options.sides:
        share = (
            1.0 if "torch" not in options.sides else QUICK_JAX_SHARE if options.quick else JAX_SHARE
        )
        rows += run_side("gpu_jax", wanted | {"deadline": start + share * seconds})
    if "torch" in options.sides:
        rows += run_side("gpu_torch", wanted | {"deadline": start + seconds})

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
    missing = [progress(row) for row in rows if "failed" in row]
    print("\n".join(table(rows, peak) + missing + profiles(rows)))
    return 0 if any("seconds" in row for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
