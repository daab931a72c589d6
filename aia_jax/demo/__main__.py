"""The paper's point on a CPU, from videos to a report: `python -m aia_jax.demo` or `make demo`.

Draws videos whose classes are each other's time reversal, prepares them, trains and tests four
networks on them with the commands that real data take, and writes their results as a table, a
picture and a page. Run again after a stop, it goes on where it was.
"""

import itertools
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import av
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.checkpoints.last_result import RESULT_FILE
from aia_jax.data.sampling import frame_indices
from aia_jax.demo import synthetic
from aia_jax.demo.commands import (
    RECIPE,
    StepFailed,
    as_typed,
    data_commands,
    duration_text,
    parse_flags,
    run,
    run_commands,
    script,
)
from aia_jax.demo.page import write_page
from aia_jax.demo.panels import Curve, Level, ModelResult
from aia_jax.demo.report import Strip, write_report
from aia_jax.errors import exit_status
from aia_jax.training.metrics_file import METRICS_FILE, read_rows
from aia_jax.video.decode import cores

REPORT, PAGE = "report.png", "report.html"
TITLE = "Can it tell a video from its reverse?"
CHANCE = 1 / len(synthetic.CLASSES)
BLIND = 1 / 2  # the best top-1 of a network to which a video and its reverse are the same
_SHOWN_VIDEO = 0  # number of the held-out videos that the report shows


class DemoNetwork(NamedTuple):
    """A network of the demo."""

    name: str  # in the table and the report
    folder: str  # of its run, in the demo's folder
    argument: str  # of configs/demo.py


NETWORKS = (
    DemoNetwork("TSN", "tsn", "tsn"),
    DemoNetwork("C", "c", "c"),
    DemoNetwork("CinST->STinC", "aia", "aia_tsn"),
    DemoNetwork("TSM", "tsm", "tsm"),
)


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
    flags, overrides = parse_flags(argv, "python -m aia_jax.demo", __doc__.splitlines()[0])
    out = flags.out
    recipe = script(RECIPE)
    config = configs.load(recipe, [argument.removeprefix("--config.") for argument in overrides])

    started = time.monotonic()
    prepare = data_commands(out, flags.seed, flags.train, flags.validation, config.data.resize)
    train_and_test = [
        run_commands(out, network.folder, flags.seed, f"{recipe}:{network.argument}", overrides)
        for network in NETWORKS
    ]
    try:
        for command in (*prepare, *itertools.chain(*train_and_test)):
            run(command)
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.status

    models = [read_result(out / network.folder, network.name) for network in NETWORKS]
    duration = f"{duration_text(time.monotonic() - started)} on {cores()} cores"
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
            *map(as_typed, prepare),
            *map(as_typed, train_and_test[0]),
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


def _versions() -> str:
    return f"Python {platform.python_version()}, jax {jax.__version__}"


if __name__ == "__main__":
    sys.exit(exit_status(main))
