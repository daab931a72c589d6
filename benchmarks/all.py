"""Runs the CPU benchmarks, one after another, and prints their results as one table: `make bench`.

    python -m benchmarks.all                  # about 10 minutes on two cores

Each ratio compares two things measured in one run. For networks it is time (or memory) over that of
plain TSN: less is better. Against PyTorch, Pillow and FFmpeg it is how many times faster this
project is: more is better.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aia_jax.video.decode import cores

PROGRAMS = (  # together they take about ten minutes
    ("forward", "--repeats", "15"),
    ("training", "--repeats", "3"),
    ("against_torch", "--repeats", "8"),
    ("loader", "--rounds", "3", "--batches", "12", "--videos", "32", "--augment", "randaugment"),
    ("prepare", "--rounds", "3", "--videos", "2", "--frames", "32"),
)
PACKAGES = ("jax", "flax", "torch", "simplejpeg", "opencv-python-headless", "pillow", "av")


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m benchmarks.all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    rows, failed = [], []
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for program, *options in PROGRAMS:
            print(f"\n== {program} {' '.join(options)}", flush=True)
            file = Path(folder) / program
            run = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{program}", *options, "--json", str(file)],
                env=environment,
            )
            if run.returncode:
                failed.append(program)
            if file.exists():
                rows += [json.loads(line) for line in file.read_text().splitlines()]

    print(
        f"\n{cpu_name()}, {cores()} cores, Python {platform.python_version()}, "
        f"{time.perf_counter() - start:.0f} s"
    )
    print(", ".join(f"{name} {installed(name)}" for name in PACKAGES))
    print(f"\n| {'what':52} | {'measured':26} | {'against':38} | ratio |")
    print(f"|{'-' * 54}|{'-' * 28}|{'-' * 40}|------:|")
    for row in rows:
        print(
            f"| {row['what']:52} | {row['value']:26} | {row['against']:38} | {row['ratio']:5.2f} |"
        )
    for program in failed:
        print(f"{program} failed", file=sys.stderr)
    return 1 if failed else 0


def installed(name: str) -> str:
    """The package's version; "not installed" if its module comes from a package of another name."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def cpu_name() -> str:
    """The processor's model where /proc/cpuinfo names it (Linux), else the machine's type."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


if __name__ == "__main__":
    sys.exit(main())
