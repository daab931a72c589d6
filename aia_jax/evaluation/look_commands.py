"""The commands `gradcam` and `gates` of `python -m aia_jax.evaluation`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aia_jax.errors import EXIT_FAILED, UserError, shorten

GRADCAM = "where models find the evidence for a class, a film strip a video (Grad-CAM)"
GRADCAM_ABOUT = (
    "A strip has the frames of the clip in the video's middle, and a row of maps for each model; "
    "blue is little, red is much."
)
GATES = "what attention lets through, a film strip a video (the gates y_C, y_T, y_H, y_W)"
GATES_ABOUT = (
    "A strip has the frames of the clip in the video's middle, and a row for each gate, averaged "
    "over channels; a row's colours span its own values."
)
_OUT = Path("looks")


def add_gradcam(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders of runs or of converted weights"
    )
    _add_common(command)
    command.add_argument(
        "--class",
        dest="class_name",
        default="",
        metavar="NAME",
        help="whose evidence is sought (default: each model's own answer)",
    )
    command.add_argument(
        "--layer",
        default="",
        metavar="NAME",
        help="of all models, as stage3_block5/conv3; a wrong name lists them (default: the last)",
    )


def add_gates(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run or of converted weights"
    )
    _add_common(command)
    command.add_argument(
        "--module",
        default="",
        metavar="NAME",
        help="start of the modules' names, as stage1_block0; a wrong one lists them (default: the "
        "last bottleneck's)",
    )


def run_gradcam(options: argparse.Namespace) -> int:
    """Draws the strips; returns the exit status."""
    # The other commands of this package work without JAX.
    from aia_jax.evaluation.look import draw_gradcam

    runs = [_open(folder, options.step) for folder in options.runs]
    return _report(
        draw_gradcam(
            runs,
            _sources(options),
            _make_folder(options.out),
            class_name=options.class_name,
            layer=options.layer,
        )
    )


def run_gates(options: argparse.Namespace) -> int:
    """Draws the strips; returns the exit status."""
    from aia_jax.evaluation.look import draw_gates

    run = _open(options.run, options.step)
    sources, out = _sources(options), _make_folder(options.out)
    return _report(draw_gates(run, sources, out, module=options.module))


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--videos",
        nargs="+",
        required=True,
        metavar="VIDEO",
        help="files, folders of frames, and patterns, as predict.py takes them",
    )
    command.add_argument(
        "--out", type=Path, default=_OUT, metavar="DIR", help=f"folder for the PNGs ({_OUT})"
    )
    command.add_argument(
        "--step", default="best", metavar="STEP", help="of a run: a step, best or latest (best)"
    )


def _open(folder: Path, step: str) -> Any:
    from aia_jax.compile_cache import use_compile_cache
    from aia_jax.weights.open import open_trained

    trained = open_trained(folder, step)
    use_compile_cache(trained.config.compile_cache)
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    return trained


def _sources(options: argparse.Namespace) -> list[Path]:
    from aia_jax.prediction.predict import find_sources

    return find_sources(options.videos)


def _make_folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; name another folder") from error
    return out


def _report(strips: Iterator[Any]) -> int:
    """Says what became of each video."""
    failed = drawn = 0
    for strip in strips:
        drawn += strip.path is not None
        if strip.path is None:
            failed += 1
            print(f"error: {strip.source}: {strip.reason}", file=sys.stderr)
            continue
        print(f"wrote {strip.path}")
        if strip.missing:
            print(
                f"note: {strip.path}: no font of this machine has {shorten(strip.missing)}",
                file=sys.stderr,
            )
    if not drawn:
        raise UserError("no video could be read, so there is nothing to draw")
    return EXIT_FAILED if failed else 0
