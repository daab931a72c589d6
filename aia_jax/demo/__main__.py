"""The paper's point on a CPU, from videos to a report: `python -m aia_jax.demo` or `make demo`.

Draws videos whose classes are each other's time reversal, prepares them, trains and tests four
networks on them with the commands that real data take, and writes their results as a table, a
picture and a page. Run again after a stop, it goes on where it was.
"""

import argparse
import itertools
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import av
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.data.sampling import frame_indices
from aia_jax.demo import synthetic
from aia_jax.demo.page import write_page
from aia_jax.demo.panels import Curve, Level, ModelResult
from aia_jax.demo.report import Strip, write_report
from aia_jax.errors import EXIT_STOPPED, Stopped, exit_status
from aia_jax.evaluation.evaluate import RESULT_FILE
from aia_jax.training.metrics_file import METRICS_FILE, read_rows
from aia_jax.video.decode import cores

REPORT, PAGE = "report.png", "report.html"
TITLE = "Can it tell a video from its reverse?"
CHANCE = 1 / len(synthetic.CLASSES)
BLIND = 1 / 2  # the best top-1 of a network to which a video and its reverse are the same
_REPOSITORY = Path(__file__).resolve().parents[2]
_SHOWN_VIDEO = 0  # number of the held-out videos that the report shows


@dataclass(frozen=True)
class DemoNetwork:
    """A network of the demo.

    Attributes:
        name: in the table and the report.
        folder: of its run, in the demo's folder.
        temporal: the recipe's `model.temporal`.
        attention: the recipe's `model.attention`.
    """

    name: str
    folder: str
    temporal: str
    attention: str


NETWORKS = (
    DemoNetwork("TSN", "tsn", "tsn", "none"),
    DemoNetwork("C", "c", "tsn", "C"),
    DemoNetwork("CinST->STinC", "aia", "tsn", "CinST->STinC"),
    DemoNetwork("TSM", "tsm", "tsm", "none"),
)


class StepFailed(Exception):
    """A command of the demo failed; `status` is its exit status."""

    def __init__(self, command: Sequence[str], status: int):
        super().__init__(
            f"status {status} of `{_as_typed(command)}`; its message is above, and the same demo "
            "goes on once the cause is gone"
        )
        self.status = status


def data_commands(
    out: Path, seed: int, train: int, validation: int, size: Sequence[int]
) -> list[list[str]]:
    """The commands that draw the videos and prepare them.

    Args:
        out: the demo's folder.
        seed: of the videos.
        train: number of training videos.
        validation: number of held-out videos.
        size: (height, width) of the stored frames, pixels.
    """
    videos = str(out / "videos")
    flags = {"--out": videos, "--seed": seed, "--train": train, "--validation": validation}
    draw = [sys.executable, "-m", "aia_jax.demo.synthetic", *_arguments(flags)]
    flags = {
        "--raw": videos,
        "--out": out / "data",
        "--name": "demo",
        "--size": f"{size[0]}x{size[1]}",
    }
    prepare = [sys.executable, _script("prepare_data.py"), "folders", *_arguments(flags)]
    return [draw, prepare]


def run_commands(
    out: Path, seed: int, recipe: str, network: DemoNetwork, overrides: Sequence[str]
) -> list[list[str]]:
    """The commands that train a network and test it.

    Args:
        out: the demo's folder.
        seed: of the training.
        recipe: path of the config file.
        network: to train.
        overrides: more flags of the form `--config.key=value`.
    """
    fields = {
        "data.dir": out / "data",
        "seed": seed,
        "model.temporal": network.temporal,
        "model.attention": network.attention,
    }
    flags = [
        *_arguments({"--config": recipe, "--workdir": out / network.folder}),
        *(f"--config.{key}={value}" for key, value in fields.items()),
        *overrides,
    ]
    return [[sys.executable, _script(name), *flags] for name in ("train.py", "eval.py")]


def run(command: Sequence[str]) -> None:
    """Prints a command, runs it, prints how long it took.

    Raises:
        StepFailed: it ended with a status other than 0.
        Stopped: it was asked to stop, or this process was.
    """
    print(f"\n$ {_as_typed(command)}", flush=True)
    started, stop_requests = time.monotonic(), []
    process = subprocess.Popen(command)

    def stop(number: int, frame: FrameType | None) -> None:
        stop_requests.append(number)
        # A terminal sends Ctrl-C (SIGINT) to the command too. A second one would end it before it
        # has saved.
        if number != signal.SIGINT:
            process.send_signal(number)

    old_handlers = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        status = process.wait()
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    if stop_requests or status == EXIT_STOPPED:
        raise Stopped("run the same command again to go on from here")
    if status:
        # A command that signal n has killed has status -n here, and 128 + n in a shell.
        raise StepFailed(command, status if status > 0 else 128 - status)
    print(f"({_duration(time.monotonic() - started)})", flush=True)


def read_result(folder: Path, name: str) -> ModelResult:
    """Reads the result and the curves of a finished run from its folder."""
    result = json.loads((folder / RESULT_FILE).read_text())
    all_rows = read_rows(folder / METRICS_FILE)

    def curve(split: str, quantity: str) -> Curve:
        rows = [row for row in all_rows if row["split"] == split]
        return Curve(
            [row["step"] for row in rows],
            [math.nan if row[quantity] is None else row[quantity] for row in rows],
        )

    return ModelResult(
        name,
        result["top1"],
        result["evaluated"],
        curve("train", "loss"),
        curve("validation", "top1"),
    )


def example_strips(videos: Path, num_frames: int) -> list[list[Strip]]:
    """The frames that a test takes from a held-out video of each class.

    Args:
        videos: the folder of the drawn videos.
        num_frames: of a clip.

    Returns:
        For each pair of classes, a strip of the one and of the other.
    """
    groups = []
    for pair in synthetic.PAIRS:
        group = []
        for name in pair:
            video = synthetic.video_path(videos, "validation", name, _SHOWN_VIDEO)
            with av.open(str(video)) as container:
                frames = np.stack(
                    [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
                )
            group.append(Strip(name, frames[frame_indices(len(frames), num_frames, "center")[0]]))
        groups.append(group)
    return groups


def main(argv: list[str] | None = None) -> int:
    """Runs the demo.

    Returns:
        The exit status: 0, or that of the command that failed.

    Raises:
        UserError: for a wrong `--config.key=value`.
        Stopped: see `run`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m aia_jax.demo",
        description=__doc__.splitlines()[0],
        epilog="--config.KEY=VALUE changes a field of configs/demo.py for all networks.",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the videos and of the training (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for everything (default: runs/demo, or runs/demo_seedN)",
    )
    parser.add_argument(
        "--train", type=int, default=960, metavar="N", help="training videos (default: %(default)s)"
    )
    parser.add_argument(
        "--validation",
        type=int,
        default=416,
        metavar="N",
        help="held-out videos (default: %(default)s)",
    )
    flags, overrides = parser.parse_known_args(argv)
    if unknown := [argument for argument in overrides if not argument.startswith("--config.")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    out = flags.out or Path("runs") / ("demo" if flags.seed == 0 else f"demo_seed{flags.seed}")
    recipe = _script("configs/demo.py")
    config = configs.load(recipe, [argument.removeprefix("--config.") for argument in overrides])

    started = time.monotonic()
    prepare = data_commands(out, flags.seed, flags.train, flags.validation, config.data.resize)
    train_and_test = [
        run_commands(out, flags.seed, recipe, network, overrides) for network in NETWORKS
    ]
    try:
        for command in (*prepare, *itertools.chain(*train_and_test)):
            run(command)
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.status

    models = [read_result(out / network.folder, network.name) for network in NETWORKS]
    duration = f"{_duration(time.monotonic() - started)} on {cores()} cores"
    write_report(
        out / REPORT,
        title=TITLE,
        summary="Four pairs of classes: every video of a class, played backwards, is a video of "
        "the partner class. TSN averages over frames, so a video and its reverse are the same to "
        f"it, and {BLIND:.0%} is the most that it can reach. Attention in attention "
        "(CinST->STinC), its channel unit alone (C) and temporal shift (TSM) let frames see one "
        "another.",
        models=models,
        strips=example_strips(out / "videos", config.data.num_frames),
        strips_title=f"Held-out clips, the {config.data.num_frames} frames that a test takes: a "
        "video and its reverse",
        accuracy_levels=[
            Level(f"blind to time {BLIND:.0%}", BLIND),
            Level(f"chance {CHANCE:.1%}", CHANCE),
        ],
        loss_levels=[Level("blind to time: ln 2", -math.log(BLIND))],
        small_print=[
            f"seed {flags.seed}; {duration}; {_versions()}",
            *map(_as_typed, prepare),
            *map(_as_typed, train_and_test[0]),
        ],
    )
    write_page(out / PAGE, TITLE, [out / network.folder for network in NETWORKS])
    _print_table(models)
    print(f"chance {CHANCE:.1%}, blind to time {BLIND:.1%}; total {duration}")
    print(f"report: {out / PAGE}, {out / REPORT}")
    return 0


def _print_table(models: Sequence[ModelResult]) -> None:
    table = Table("network", title="top-1 on held-out videos")
    for column in ("top-1", "videos"):
        table.add_column(column, justify="right")
    for model in models:
        table.add_row(model.name, f"{model.top1:.1%}", f"{model.evaluated:,}")
    print()
    Console().print(table)


def _script(name: str) -> str:
    """The path of a file of the repository, relative to the working directory."""
    return os.path.relpath(_REPOSITORY / name)


def _arguments(flags: Mapping[str, Any]) -> list[str]:
    """Flags and their values as arguments of a command."""
    return [str(argument) for flag in flags.items() for argument in flag]


def _as_typed(command: Sequence[str]) -> str:
    """A command as a person types it in a shell."""
    return shlex.join(["python", *command[1:]])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _versions() -> str:
    return f"Python {platform.python_version()}, jax {jax.__version__}"


if __name__ == "__main__":
    sys.exit(exit_status(main))
