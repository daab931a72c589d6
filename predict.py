"""Says what videos show: the most likely classes of each, by a trained run.

    python predict.py clip.mp4 --workdir runs/ssv2_aia_tsm
    python predict.py 'clips/**/*.webm' frames/00042 --workdir runs/ssv2_aia_tsm --views 2x3 --json
    python predict.py clip.mp4 --workdir runs/ssv2_aia_tsm --overlay out.mp4

A video is a file that FFmpeg reads, a folder of numbered .jpg or .png frames, or a quoted pattern
of such names. The run's checkpoint says all about the network: no recipe is needed. --json prints
one object a line, in the order of the videos: {"video", "classes": [{"name", "label",
"probability"}, ...], "frames", "seen", "fps", "step", "views"}, or {"video", "error"}.

Exit status: 0 every video was classified, 1 some could not be read (the error lines say which and
why) and the rest was, 2 the input is wrong, or no video could be read.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aia_jax.checkpoints.trained_run import TrainedRun, open_run
from aia_jax.compile_cache import use_compile_cache
from aia_jax.data.views import Views
from aia_jax.errors import EXIT_FAILED, UserError, exit_status
from aia_jax.evaluation.overlay import check_overlay, write_overlay
from aia_jax.evaluation.predict import (
    Classifier,
    Prediction,
    Unreadable,
    choose_batch_size,
    find_frame_format,
    find_sources,
    predict,
)
from aia_jax.video.decode import UnreadableVideo


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)

    # ---- Videos and views ------------------------------------------------------------------------

    if options.top < 1:
        raise UserError(f"--top {options.top}: show at least 1 class")
    views = Views.parse(options.views) if options.views else None
    sources = find_sources(options.videos)
    overlay = check_overlay(Path(options.overlay), sources) if options.overlay else None

    # ---- The run and its network -----------------------------------------------------------------

    started = time.perf_counter()
    run = open_run(Path(options.workdir), options.step)
    use_compile_cache(run.config.compile_cache)
    views = views or Views.from_protocol(run.config.eval.protocol)
    frame_format = find_frame_format(run, options.size)
    classifier = Classifier(run, choose_batch_size(len(sources) * len(views)))
    opened = time.perf_counter() - started

    # ---- Every video once ------------------------------------------------------------------------

    results = []
    for result in predict(run, sources, views, frame_format, classifier):
        results.append(result)
        if options.json:
            print(
                json.dumps(_as_json(result, run, views, options.top), ensure_ascii=False),
                flush=True,
            )

    # ---- Results: table or JSON, timing, overlay -------------------------------------------------

    good = [result for result in results if isinstance(result, Prediction)]
    bad = [result for result in results if isinstance(result, Unreadable)]
    if good and not options.json:
        Console(highlight=False, markup=False).print(_make_table(good, run, options.top))
    if options.timing and good:
        _print_timing(opened, good, classifier)
    if not good:
        raise UserError(
            "no video could be read: " + "; ".join(f"{one.source}: {one.reason}" for one in bad)
        )
    if overlay:
        classes = [
            (run.class_names[label], probability) for label, probability in good[0].top(options.top)
        ]
        try:
            write_overlay(overlay, good[0], classes)
        except UnreadableVideo as error:
            bad.append(Unreadable(good[0].source, str(error)))
        else:
            print(f"wrote {overlay}", file=sys.stderr)

    # ---- What could not be read ------------------------------------------------------------------

    for one in bad:
        print(f"error: {one.source}: {one.reason}", file=sys.stderr)
    if bad:
        print(f"error: {len(bad)} of {len(sources)} videos could not be read", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="video file, folder of frames, or quoted pattern"
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the trained run")
    parser.add_argument(
        "--step",
        default="best",
        metavar="STEP",
        help="checkpoint: a step, best (default), or latest",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes to show (default: %(default)s)"
    )
    parser.add_argument(
        "--views",
        metavar="CLIPSxCROPS",
        help="1, 2 or 10 clips × 1 or 3 crops, averaged (default: the recipe's eval.protocol)",
    )
    parser.add_argument(
        "--overlay",
        metavar="FILE",
        help="write the video with its classes below it: .mp4 or .gif; one video only",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line instead of a table"
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
    return parser.parse_args(argv)


def _as_json(result: Prediction | Unreadable, run: TrainedRun, views: Views, top: int) -> dict:
    if isinstance(result, Unreadable):
        return {"video": str(result.source), "error": result.reason}
    return {
        "video": str(result.source),
        "classes": [
            {"name": run.class_names[label], "label": label, "probability": probability}
            for label, probability in result.top(top)
        ],
        "frames": result.count,
        "seen": list(result.seen),
        "fps": result.fps,
        "step": run.step,
        "views": str(views),
    }


def _make_table(results: list[Prediction], run: TrainedRun, top: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("video", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("class", overflow="fold")
    for result in results:
        for rank, (label, probability) in enumerate(result.top(top)):
            table.add_row(
                "" if rank else str(result.source), f"{probability:.1%}", run.class_names[label]
            )
    return table


def _print_timing(opened: float, results: list[Prediction], classifier: Classifier) -> None:
    calls, first, warm = len(classifier.seconds), classifier.seconds[0], classifier.time_call()
    reading = sum(result.seconds for result in results) / len(results)
    network = warm * calls / len(results)  # of one video
    print(
        f"timing: checkpoint {opened:.2f} s; reading {reading * 1e3:.1f} ms a video; network "
        f"{first:.2f} s the first time (it compiles, or reads the compiled program), then "
        f"{warm * 1e3:.1f} ms for {classifier.batch} clip{'s' * (classifier.batch > 1)}; "
        f"warm, {reading / (reading + network):.0%} of a video's time is reading",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
