"""The command line of predict.py."""

import argparse
import sys
from collections.abc import Sequence

from aia_jax import config as configs
from aia_jax.errors import UserError
from aia_jax.prediction.sliding import Sliding

_MOST_FPS = 1000


def parse(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Reads the command line.

    Args:
        argv: arguments without the program's name; None takes the process's.
        description: the first part of `--help`.

    Returns:
        A namespace with the options; `overrides`: "section.key=value" each; and `bars`, the classes
        that an overlay shows.

    Raises:
        UserError: options that exclude one another, or a number that cannot be. Arguments that the
            command does not have end the process with argparse's line and status 2.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="video file, folder of frames, or quoted pattern"
    )
    parser.add_argument("--workdir", metavar="DIR", help="folder of the trained run")
    parser.add_argument(
        "--weights",
        metavar="DIR",
        help="folder of converted public weights, instead of a run",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the classes of --weights: one a line, or JSON, a list or {name: label} "
        "(default: the folder's)",
    )
    parser.add_argument(
        "--config",
        metavar="FILE[:ARGUMENT]",
        help="recipe, for what an older folder of weights does not say",
    )
    parser.add_argument(
        "--step", metavar="STEP", help="checkpoint of --workdir: a step, best (default), or latest"
    )
    parser.add_argument(
        "--top", type=int, metavar="K", help="classes to show (default: 5, with --window 3)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="show the classes of at least this probability, such as 0.5 where a video has several "
        "(all of them, or --top K)",
    )
    parser.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="classify windows of this length, which slide over each video",
    )
    parser.add_argument(
        "--stride",
        type=float,
        metavar="SECONDS",
        help="from the start of a window to that of the next (default: the window's length)",
    )
    parser.add_argument(
        "--fps", type=float, metavar="RATE", help="of folders of frames, for --window"
    )
    parser.add_argument(
        "--views",
        metavar="CLIPSxCROPS",
        help="1, 2 or 10 clips × 1, 3, 5 or 10 crops, averaged (default: the recipe's "
        "eval.protocol)",
    )
    parser.add_argument(
        "--overlay",
        metavar="FILE",
        help="write the video with its classes below it, with --window over time: .mp4 or .gif; "
        "one video only",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line instead of a table"
    )
    parser.add_argument(
        "--csv", action="store_true", help="with --window: print CSV, a line a window and class"
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        help="of the stored frames, as 240x320 or short256 (default: by the data's manifest, else "
        "the recipe)",
    )
    parser.add_argument(
        "--timing", action="store_true", help="say on the error stream how long each part took"
    )
    arguments, overrides = configs.take_overrides(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(arguments)
    options.overrides = overrides
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    """Checks the options that depend on one another, and fills in their defaults.

    Raises:
        UserError: for the first that cannot be.
    """
    if (options.workdir is None) == (options.weights is None):
        raise UserError(
            "name either the folder of a trained run with --workdir, or a folder of weights with "
            "--weights"
        )
    if options.weights is not None and options.step is not None:
        raise UserError("--step chooses a checkpoint of --workdir; a folder of weights has none")
    if options.workdir is not None and options.classes is not None:
        raise UserError("--classes names the classes of --weights; a run's checkpoint has its own")
    if options.window is None:
        for name in ("stride", "fps", "csv"):
            if getattr(options, name) not in (None, False):
                raise UserError(f"--{name} belongs to --window SECONDS; add it")
    if options.json and options.csv:
        raise UserError("--json and --csv are two forms of one output; give one of them")
    if options.fps is not None and not 0 < options.fps <= _MOST_FPS:
        raise UserError(
            f"--fps {options.fps}: expected frames a second, above 0 and up to {_MOST_FPS}"
        )
    if options.window is not None:
        options.stride = options.window if options.stride is None else options.stride
        Sliding(options.window, options.stride)
    if options.threshold is not None and not 0 < options.threshold <= 1:
        raise UserError(
            f"--threshold {options.threshold}: expected a probability, above 0 and up to 1"
        )
    options.bars = options.top or (5 if options.window is None else 3)
    if options.top is None:
        options.top = options.bars if options.threshold is None else sys.maxsize
    if options.top < 1:
        raise UserError(f"--top {options.top}: show at least 1 class")
