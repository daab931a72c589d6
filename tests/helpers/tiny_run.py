"""A recipe so small that whole runs of the real commands fit in a test, and ways to start them."""

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from aia_jax.errors import exit_status
from tests.helpers.paths import ROOT
from tests.helpers.tiny_data import make_dataset

# What a row of metrics.jsonl has from the clock.
CLOCK = (
    "clips_per_s",
    "steps_per_s",
    "data_wait",
    "device_idle",
)

RECIPE = '''
"""A one-block network on a few frames of noise."""

from configs import base


def get_config():
    config = base.get_config()
    config.init_from = "scratch"
    config.data.update(
        name="tiny",
        dir={data!r},
        num_classes=3,
        num_frames=4,
        crop=12,
        resize=(16, 16),
        scales=(1.0, 0.75),
        workers=0,
        damaged_share=0.2,
    )
    config.model.update(stem="small", width=8, stage_sizes=(1,), attention="C")
    config.optim.update(lr=0.05, lr_batch_size=4, milestones=(2,))
    config.train.update(batch_size=4, epochs=3, log_every=2)
    config.eval.batch_size = 4
    config.log.tensorboard = False  # its package imports PyTorch, which takes seconds
    return config
'''


def make_recipe(folder: Path, settings: Sequence[str] = (), **dataset) -> Path:
    """Writes a data set of 18 training and 9 validation videos, and a recipe of 3 × 4 steps.

    `settings` are further ones of the recipe, such as "train.mixup = 0.8".
    """
    dataset = {
        "videos_per_class": {"train": 6, "validation": 3},
        "frames": 6,
        "size": (16, 16),
    } | dataset
    data = make_dataset(folder / "data", **dataset)
    recipe = folder / "tiny.py"
    *lines, end = RECIPE.format(data=str(data)).splitlines()
    lines += [f"    config.{setting}" for setting in settings]
    recipe.write_text("\n".join([*lines, end, ""]))
    return recipe


def command(script: str, recipe: Path | None, workdir: Path | None, *overrides: str) -> list[str]:
    """The command line of train.py or eval.py, which needs no recipe, or no run."""
    arguments = [] if recipe is None else ["--config", str(recipe)]
    arguments += [] if workdir is None else ["--workdir", str(workdir)]
    return [sys.executable, str(ROOT / script), *arguments, *overrides]


def run(
    script: str, recipe: Path, workdir: Path, *overrides: str, **environment: str
) -> subprocess.CompletedProcess:
    """Runs the command to its end, in a process of its own as a user does."""
    env = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    line = command(script, recipe, workdir, *overrides)
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=300)


def run_here(
    script: str, recipe: Path | None, workdir: Path | None, *overrides: str
) -> subprocess.CompletedProcess:
    """Runs the command in this process, which has imported everything already.

    For tests whose subject is what a command computes and says, not its process. Programs come from
    the session's folder of compiled programs, as they do in `run`.
    """
    main = importlib.import_module(script.removesuffix(".py")).main
    line = command(script, recipe, workdir, *overrides)
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        session_compile_cache(),
    ):
        try:
            status = exit_status(lambda: main(line[2:]))
        except SystemExit as stop:  # argparse ends a process so
            status = stop.code
    return subprocess.CompletedProcess(line, status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def session_compile_cache():
    """Inside, this process compiles as the commands do, and shares their folder of programs."""
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()  # it looks at the setting once
    try:
        with little_optimisation():
            yield
    finally:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()


@contextlib.contextmanager
def little_optimisation():
    """Inside, XLA compiles this process's programs as it does those of the commands."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def whole_run(
    folder: Path, *overrides: str, settings: Sequence[str] = (), **environment: str
) -> tuple[Path, Path, subprocess.CompletedProcess]:
    """Trains the small recipe to its end, undisturbed: the recipe, the run's folder, and what was
    said.
    """
    recipe = make_recipe(folder, settings)
    done = run("train.py", recipe, folder / "run", *overrides, **environment)
    assert done.returncode == 0, done.stderr
    return recipe, folder / "run", done


def rows(workdir: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in CLOCK}
        for line in lines
    ]


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """The command found its input wrong: status 2 and one line that has all words."""
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in line, line
