"""Says what videos show: the most likely classes of each, by a trained run or by public weights.

    python predict.py clip.mp4 --workdir runs/ssv2_aia_tsm
    python predict.py 'clips/**/*.webm' frames/00042 --workdir runs/ssv2_aia_tsm --views 2x3 --json
    python predict.py clip.mp4 --workdir runs/ssv2_aia_tsm --overlay out.mp4
    python predict.py clip.mp4 --weights weights/tsm_ssv2 --classes labels.json
    python predict.py day.mp4 --workdir runs/kitchen --window 2 --stride 1 --csv > day.csv
    python predict.py clip.mp4 --workdir runs/charades --threshold 0.5

A video is a file that FFmpeg reads, a folder of numbered .jpg or .png frames, or a quoted pattern
of such names. The run's checkpoint says all about the network: no recipe is needed. Of weights,
the folder that convert_torch_weights.py wrote says it; --config.data.num_frames=16 and the like
replace it. --window slides over long videos and says what is seen when. Of a network for several
classes a video (data.label_kind=multi) each class has a probability of its own, and --threshold
shows those that are likely enough.

--json prints one object a line, in the order of the videos: {"video", "classes": [{"name", "label",
"probability"}, ...], "frames", "seen", "fps", "step", "views"}, or {"video", "error"}. With
--window each line is a window and has "start" and "end", in seconds, instead of "frames".

Exit status: 0 every video was classified, 1 some could not be read (the error lines say which and
why) and the rest was, 2 the input is wrong, or no video could be read.
"""

import dataclasses
import json
import sys
import time
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.checkpoints.trained_run import TrainedRun, open_run
from aia_jax.compile_cache import use_compile_cache
from aia_jax.data.views import Views
from aia_jax.errors import EXIT_FAILED, UserError, exit_status
from aia_jax.prediction.frame_format import find_frame_format, frame_format_note
from aia_jax.prediction.options import parse
from aia_jax.prediction.overlay import check_overlay, printable, write_overlay
from aia_jax.prediction.predict import (
    Classifier,
    Prediction,
    Unreadable,
    above,
    choose_batch_size,
    find_sources,
    predict,
)
from aia_jax.prediction.sliding import Sliding
from aia_jax.prediction.window_output import (
    CSV_HEAD,
    csv_lines,
    to_csv,
    window_fields,
    window_table,
)
from aia_jax.prediction.window_overlay import write_window_overlay
from aia_jax.prediction.windows import WindowPrediction, predict_windows
from aia_jax.video.faults import UnreadableVideo
from aia_jax.video.frame_size import FrameFormat
from aia_jax.video.timed_frames import read_clock
from aia_jax.weights.open import open_weights


def main(argv: list[str] | None = None) -> int:
    options = parse(argv, __doc__)

    # ---- Videos and views ------------------------------------------------------------------------

    views = Views.parse(options.views) if options.views else None
    sources = find_sources(options.videos)
    overlay = check_overlay(Path(options.overlay), sources) if options.overlay else None

    # ---- The run and its network -----------------------------------------------------------------

    started = time.perf_counter()
    run = _open(options)
    use_compile_cache(run.config.compile_cache)
    views = views or Views.from_protocol(run.config.eval.protocol)
    frame_format = find_frame_format(run, options.size)
    for note in (*run.notes, frame_format_note(run, options.size)):
        if note:
            print(f"note: {note}", file=sys.stderr)
    if options.window is not None:
        return _slide(options, run, sources, views, frame_format, overlay)
    classifier = Classifier(run, choose_batch_size(len(sources) * len(views)))
    opened = time.perf_counter() - started

    # ---- Every video once ------------------------------------------------------------------------

    results = []
    for result in predict(run, sources, views, frame_format, classifier):
        results.append(result)
        if options.json:
            print(_to_json(_as_json(result, run, views, options)), flush=True)

    # ---- Results: table or JSON, timing, overlay -------------------------------------------------

    good = [result for result in results if isinstance(result, Prediction)]
    bad = [result for result in results if isinstance(result, Unreadable)]
    if good and not options.json:
        Console(highlight=False, markup=False).print(_make_table(good, run, options))
    if options.timing and good:
        _print_timing(opened, good, classifier)
    if not good:
        raise UserError("no video could be read: " + "; ".join(map(_describe, bad)))
    if overlay:
        classes = [
            (run.class_names[label], probability)
            for label, probability in good[0].top(options.bars)
        ]
        try:
            without_font = write_overlay(overlay, good[0], classes)
        except UnreadableVideo as error:
            bad.append(Unreadable(good[0].source, str(error)))
        else:
            _print_overlay(overlay, without_font)
    return _print_bad(bad, len(sources))


def _slide(
    options: Namespace,
    run: TrainedRun,
    sources: list[Path],
    views: Views,
    frame_format: FrameFormat,
    overlay: Path | None,
) -> int:
    """Does what --window asks for; returns the exit status."""
    sliding = Sliding(options.window, options.stride)

    # ---- Length of every video, and its windows --------------------------------------------------

    clocks, bad, calls = {}, [], 1
    for source in sources:
        try:
            clocks[source] = read_clock(source, frame_format.frame_names, options.fps)
        except UnreadableVideo as error:
            bad.append(Unreadable(source, str(error)))
            continue
        places = sliding.place(source, clocks[source], run.model.segment_frames)
        calls = max(calls, len(places) * len(views))
    classifier = Classifier(run, choose_batch_size(calls))

    # ---- Every window once -----------------------------------------------------------------------

    found: list[tuple[Path, list[WindowPrediction]]] = []
    keep, count, started = overlay or not (options.json or options.csv), 0, time.perf_counter()
    for source, clock in clocks.items():
        found.append((source, []))
        try:
            for window in predict_windows(
                run, source, sliding, views, frame_format, clock, classifier, options.top
            ):
                if options.csv and not count:
                    print(to_csv([CSV_HEAD]))
                count += 1
                if keep:
                    found[-1][1].append(window)
                window = _only_likely(window, options)
                if options.csv and window.classes:
                    _print_line(csv_lines(source, window, run.class_names))
                if options.json:
                    about = {"fps": clock.fps, "step": run.step, "views": str(views)}
                    fields = window_fields(window, run.class_names)
                    print(_to_json({"video": str(source), **fields, **about}), flush=True)
        except UnreadableVideo as error:
            bad.append(Unreadable(source, str(error)))
    if options.json:
        for one in bad:
            print(_to_json({"video": str(one.source), "error": one.reason}))

    # ---- Results ---------------------------------------------------------------------------------

    if not count:
        raise UserError("no video could be read: " + "; ".join(map(_describe, bad)))
    if not (options.json or options.csv):
        shown = [(source, [_only_likely(one, options) for one in few]) for source, few in found]
        Console(highlight=False, markup=False).print(window_table(shown, run.class_names))
    if options.timing:
        seconds = time.perf_counter() - started
        print(
            f"timing: {count} windows in {seconds:.2f} s, {count / seconds:.1f} a second; the "
            f"network took {classifier.seconds[0]:.2f} s the first time and "
            f"{sum(classifier.seconds[1:]):.2f} s in {len(classifier.seconds) - 1} more calls of "
            f"{classifier.batch} clip{'s' * (classifier.batch > 1)}",
            file=sys.stderr,
        )
    if overlay and not bad:
        (source, windows), clock = found[0], clocks[sources[0]]
        windows = [dataclasses.replace(one, classes=one.classes[: options.bars]) for one in windows]
        try:
            without_font = write_window_overlay(
                overlay, source, windows, run.class_names, frame_format, clock
            )
        except UnreadableVideo as error:
            bad.append(Unreadable(source, str(error)))
        else:
            _print_overlay(overlay, without_font)
    return _print_bad(bad, len(sources))


def _only_likely(window: WindowPrediction, options: Namespace) -> WindowPrediction:
    """The window with the classes that --threshold leaves."""
    return dataclasses.replace(window, classes=tuple(above(window.classes, options.threshold)))


def _open(options: Namespace) -> TrainedRun:
    recipe = configs.load(options.config) if options.config else None
    given = {"overrides": options.overrides, "recipe": recipe}
    if options.weights is None:
        return open_run(Path(options.workdir), options.step or "best", **given)
    classes = None if options.classes is None else Path(options.classes)
    return open_weights(Path(options.weights), classes, **given)


def _print_overlay(path: Path, without_font: str) -> None:
    print(f"wrote {printable(str(path))}", file=sys.stderr)
    if without_font:
        print(
            f"note: no font of this machine has {without_font[:20]}: the overlay shows "
            "boxes instead; install a font for this script, such as one of the Noto fonts",
            file=sys.stderr,
        )


def _print_bad(bad: list[Unreadable], count: int) -> int:
    """Names the videos that could not be read; returns the exit status."""
    for one in bad:
        print(f"error: {_describe(one)}", file=sys.stderr)
    if bad:
        print(f"error: {len(bad)} of {count} videos could not be read", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _describe(one: Unreadable) -> str:
    """One line on a video that could not be read, whatever its name holds."""
    return printable(f"{one.source}: {one.reason}")


def _print_line(line: str) -> None:
    """Prints text, with escapes for what the output's encoding lacks."""
    encoding = sys.stdout.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _to_json(fields: dict) -> str:
    """Writes JSON on one line, in ASCII where the output's encoding lacks a character of it.

    A file name need not be text in any encoding.
    """
    line = json.dumps(fields, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(fields)
    return line


def _as_json(
    result: Prediction | Unreadable, run: TrainedRun, views: Views, options: Namespace
) -> dict:
    if isinstance(result, Unreadable):
        return {"video": str(result.source), "error": result.reason}
    return {
        "video": str(result.source),
        "classes": [
            {"name": run.class_names[label], "label": label, "probability": probability}
            for label, probability in above(result.top(options.top), options.threshold)
        ],
        "frames": result.count,
        "seen": list(result.seen),
        "fps": result.fps,
        "step": run.step,
        "views": str(views),
    }


def _make_table(results: list[Prediction], run: TrainedRun, options: Namespace) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("video", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("class", overflow="fold")
    for result in results:
        classes = above(result.top(options.top), options.threshold)
        cells = [(f"{probability:.1%}", run.class_names[label]) for label, probability in classes]
        for rank, texts in enumerate(cells or [("—", "—")]):
            table.add_row("" if rank else printable(str(result.source)), *texts)
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
