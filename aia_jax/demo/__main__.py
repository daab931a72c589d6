"""The paper's point on a CPU, from video files to a report: `python -m aia_jax.demo`, or `make
demo`.

Draws videos whose classes are each other's time reversal, prepares them, trains and tests four
networks on them with the commands that real data take, and puts what they measured in one table and
one picture. Run again after a stop, it goes on where it was.
"""

import argparse
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import av
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.data.sampling import frame_indices
from aia_jax.demo import synthetic
from aia_jax.demo.report import Curve, Level, ModelResult, Strip, write_report
from aia_jax.errors import EXIT_STOPPED, Stopped, exit_status
from aia_jax.training.log import METRICS_FILE, read_rows
from aia_jax.video.decode import cores

REPORT = "report.png"
CHANCE = 1 / len(synthetic.CLASSES)
BLIND = 1 / 2  # top-1 in reach of a model to which a video and its reverse are the same
_REPOSITORY = Path(__file__).resolve().parents[1]
_SHOWN_VIDEO = 0  # number of the held-out videos in the report


@dataclass(frozen=True)
class Contestant:
    """A network of the demo: what it is called, its run's folder, and the two fields of the recipe
    that are its own.
    """

    name: str
    folder: str
    temporal: str
    attention: str


CONTESTANTS = (
    Contestant("TSN", "tsn", "tsn", "none"),
    Contestant("C", "c", "tsn", "C"),
    Contestant("CinST->STinC", "aia", "tsn", "CinST->STinC"),
    Contestant("TSM", "tsm", "tsm", "none"),
)


class StepFailed(Exception):
    """A command of the demo failed; `status` is its exit status."""

    def __init__(self, command: Sequence[str], status: int):
        super().__init__(
            f"status {status} of `{_shown(command)}`; its message is above, and the same demo goes "
            "on once the cause is gone"
        )
        self.status = status


def data_commands(
    out: Path, seed: int, train: int, validation: int, size: Sequence[int]
) -> list[list[str]]:
    """The commands that draw the videos and prepare them, frames stored as `size` (height, width)
    pixels.
    """
    videos, counts = (
        str(out / "videos"),
        ["--seed", str(seed), "--train", str(train), "--validation", str(validation)],
    )
    prepare = [
        "folders",
        "--raw",
        videos,
        "--out",
        str(out / "data"),
        "--name",
        "demo",
        "--size",
        f"{size[0]}x{size[1]}",
    ]
    return [
        [sys.executable, "-m", "aia_jax.demo.synthetic", "--out", videos, *counts],
        [sys.executable, _script("prepare_data.py"), *prepare],
    ]


def run_commands(
    out: Path, seed: int, recipe: str, contestant: Contestant, overrides: Sequence[str]
) -> list[list[str]]:
    """The commands that train a network and test it; `overrides` are more `--config.key=value`."""
    own = {
        "data.dir": out / "data",
        "seed": seed,
        "model.temporal": contestant.temporal,
        "model.attention": contestant.attention,
    }
    flags = [
        "--config",
        recipe,
        "--workdir",
        str(out / contestant.folder),
        *(f"--config.{key}={value}" for key, value in own.items()),
    ]
    return [[sys.executable, _script(name), *flags, *overrides] for name in ("train.py", "eval.py")]


def run(command: Sequence[str]) -> None:
    """Prints a command, runs it, prints how long it took.

    Raises:
        StepFailed: it ended with a status other than 0.
        Stopped: it was asked to stop, or this process was.
    """
    print(f"\n$ {_shown(command)}", flush=True)
    started, asked = time.monotonic(), []
    process = subprocess.Popen(command)

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if (
            number != signal.SIGINT
            # a terminal sends Ctrl-C to the command too, and a second one would break off its
            # saving
        ):
            process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked or status == EXIT_STOPPED:
        raise Stopped("run the same command again to go on from here")
    if status:
        raise StepFailed(
            command, status if status > 0 else 128 - status
        )  # killed by a signal: as a shell puts it
    print(f"({_duration(time.monotonic() - started)})", flush=True)


def read_result(folder: Path, name: str) -> ModelResult:
    """What a finished run has left in its folder."""
    tested = json.loads((folder / "eval.json").read_text())
    rows = read_rows(folder / METRICS_FILE)

    def curve(split: str, quantity: str) -> Curve:
        of_split = [row for row in rows if row["split"] == split]
        return Curve(
            [row["step"] for row in of_split],
            [math.nan if row[quantity] is None else row[quantity] for row in of_split],
        )

    return ModelResult(
        name,
        tested["top1"],
        tested["evaluated"],
        curve("train", "loss"),
        curve("validation", "top1"),
    )


def example_strips(videos: Path, num_frames: int) -> list[list[Strip]]:
    """The frames that a test takes from a held-out video of each class, a class and its reverse
    together.
    """
    groups = []
    for pair in synthetic.PAIRS:
        group = []
        for name in pair:
            with av.open(
                str(synthetic.video_path(videos, "validation", name, _SHOWN_VIDEO))
            ) as container:
                frames = np.stack(
                    [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
                )
            group.append(Strip(name, frames[frame_indices(len(frames), num_frames, "center")[0]]))
        groups.append(group)
    return groups


def main(argv: list[str] | None = None) -> int:
    """Runs the demo and returns its exit status: 0, or that of the command that failed.

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
    to_data = data_commands(out, flags.seed, flags.train, flags.validation, config.data.resize)
    to_results = [
        run_commands(out, flags.seed, recipe, contestant, overrides) for contestant in CONTESTANTS
    ]
    try:
        for command in [*to_data, *(command for both in to_results for command in both)]:
            run(command)
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.status

    models = [read_result(out / contestant.folder, contestant.name) for contestant in CONTESTANTS]
    took = f"{_duration(time.monotonic() - started)} on {cores()} cores"
    write_report(
        out / REPORT,
        title="Can it tell a video from its reverse?",
        summary="Four pairs of classes: every video of a class, played backwards, is a video of "
        "the partner class. TSN averages over "
        f"frames, so a video and its reverse are the same to it, and {BLIND:.0%} is the most that "
        "it can reach. Attention in attention "
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
            f"seed {flags.seed}; {took}; {_versions()}",
            *map(_shown, to_data),
            *map(_shown, to_results[0]),
        ],
    )
    _print_table(models)
    print(f"chance {CHANCE:.1%}, blind to time {BLIND:.1%}; total {took}\nreport: {out / REPORT}")
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
    """A file of the repository, as seen from the working directory."""
    return os.path.relpath(_REPOSITORY / name)


def _shown(command: Sequence[str]) -> str:
    return shlex.join(["python", *command[1:]])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _versions() -> str:
    return f"Python {platform.python_version()}, jax {jax.__version__}"


if __name__ == "__main__":
    sys.exit(exit_status(main))
