"""Programs in processes of their own, on CPU devices that XLA is forced to show."""

import os
import subprocess
import sys
import textwrap

from tests.helpers.paths import ROOT


def start(program: str, devices: int, **environment: str) -> subprocess.Popen:
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "SLURM_"))
    }
    env |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out
