"""Numbers, comparisons, ensembles, tables and a report from score files; and looks into networks.

    python -m aia_jax.evaluation metrics runs/aia/scores/validation_8x1x1_42000.npz
    python -m aia_jax.evaluation compare A.npz B.npz
    python -m aia_jax.evaluation ensemble F8.npz F12.npz F16.npz --out joined.npz
    python -m aia_jax.evaluation actions VERB.npz NOUN.npz
    python -m aia_jax.evaluation tables runs/tsm runs/aia --latex
    python -m aia_jax.evaluation report runs/tsm runs/aia --out report
    python -m aia_jax.evaluation features runs/aia --split train --out train.npz
    python -m aia_jax.evaluation gradcam runs/tsm runs/aia --videos clip.mp4
    python -m aia_jax.evaluation gates runs/aia --videos clip.mp4 --module stage4_block2

eval.py writes a score file for every test, in the run's folder `scores`; `features`, `gradcam` and
`gates` run networks. Exit status: 0 done; 1 some videos could not be read; 2 the input is wrong,
nothing was written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aia_jax.errors import UserError, exit_status
from aia_jax.evaluation import features_command, look_commands, show
from aia_jax.evaluation.actions import combine
from aia_jax.evaluation.compare import compare
from aia_jax.evaluation.ensembles import RULES, join
from aia_jax.evaluation.intervals import RESAMPLES
from aia_jax.evaluation.metrics import BINS, summarize
from aia_jax.evaluation.run_scores import find_score_files
from aia_jax.evaluation.score_files import SUFFIX, read_scores, write_scores
from aia_jax.evaluation.scores import Ensemble, Scores
from aia_jax.evaluation.tables import FORMS, make_table, to_latex, to_markdown

_JSON = "print one JSON object instead of tables"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aia_jax.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, help: str, about: str) -> argparse.ArgumentParser:
        title = help.replace("%%", "%")
        command = commands.add_parser(
            name,
            help=help,
            description=f"{title[0].upper()}{title[1:]}. {about}",
            allow_abbrev=False,
        )
        command.set_defaults(execute=run)
        return command

    command = add(
        "metrics",
        _metrics,
        "accuracy, loss and calibration of a test, with 95%% intervals",
        "Also the weakest classes and the pairs of classes that are confused most.",
    )
    command.add_argument("scores", type=Path, metavar="SCORES.npz", help="a score file")
    command.add_argument(
        "--rows", type=_natural, default=10, metavar="N", help="classes and pairs to print (10)"
    )
    command.add_argument(
        "--resamples",
        type=_positive,
        default=RESAMPLES,
        metavar="N",
        help=f"draws of the bootstrap over videos ({RESAMPLES})",
    )
    command.add_argument(
        "--bins",
        type=_positive,
        default=BINS,
        metavar="N",
        help=f"bins of the calibration error ({BINS})",
    )
    command.add_argument("--json", action="store_true", help=f"{_JSON}; it has all classes")

    command = add(
        "compare",
        _compare,
        "two models on the same videos",
        "Says which videos flipped, whether the difference can be chance (McNemar's test), and in "
        "which classes it lies.",
    )
    command.add_argument("first", type=Path, metavar="A.npz", help="a score file")
    command.add_argument("second", type=Path, metavar="B.npz", help="of the other model")
    command.add_argument(
        "--rows", type=_natural, default=10, metavar="N", help="videos and classes to print (10)"
    )
    _add_common(command)
    command.add_argument("--json", action="store_true", help=f"{_JSON}; it has all flips")

    command = add(
        "ensemble",
        _ensemble,
        "joins the scores of several tests, such as 8, 12 and 16 frames",
        "Prints the numbers of all and of the ensemble; videos and classes are matched by name.",
    )
    command.add_argument("scores", type=Path, nargs="+", metavar="SCORES.npz", help="score files")
    command.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="of each file, above 0 (default: all the same)",
    )
    rules = "; ".join(f"{name}: {rule.title}" for name, rule in RULES.items())
    command.add_argument("--rule", choices=RULES, default="logits", help=f"{rules} (logits)")
    command.add_argument(
        "--out", type=Path, metavar="FILE.npz", help="write the joined scores, a score file again"
    )
    _add_common(command)
    command.add_argument("--json", action="store_true", help=_JSON)

    command = add(
        "actions",
        _actions,
        "verb, noun and action of EPIC-KITCHENS, from the scores of two runs",
        "An action is right where both are; its top-5 is by the product of the probabilities.",
    )
    command.add_argument("verb", type=Path, metavar="VERB.npz", help="scores of the verbs' run")
    command.add_argument("noun", type=Path, metavar="NOUN.npz", help="of the nouns' run")
    _add_common(command)
    command.add_argument("--json", action="store_true", help=_JSON)

    command = add(
        "tables",
        _tables,
        "rows in the form of the paper's Tables I and II",
        "The paper's numbers for the same test stand beside the measured ones.",
    )
    command.add_argument(
        "places",
        nargs="+",
        metavar="RUN_OR_NPZ",
        help="score files, and folders of runs, which stand for all of theirs",
    )
    command.add_argument(
        "--form",
        choices=FORMS,
        default="II",
        help="I: models and blocks; II: methods and protocols, data sets side by side (II)",
    )
    command.add_argument("--latex", action="store_true", help="a tabular, instead of Markdown")

    command = add(
        "report",
        _report,
        "one HTML page with all numbers, classes and mistakes of the models",
        "The page needs nothing beside it. Frames come from the prepared data of the runs, maps of "
        "where a model looked (Grad-CAM) from their checkpoints, where both are at hand.",
    )
    command.add_argument(
        "places",
        nargs="+",
        metavar="RUN_OR_NPZ",
        help="score files, and folders of runs, which stand for all of theirs",
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for report.html"
    )
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="the prepared data (default: the runs')"
    )
    command.add_argument(
        "--strips",
        type=_natural,
        default=6,
        metavar="N",
        help="the hardest videos to show, and half as many mistakes of each model (6)",
    )
    command.add_argument(
        "--gradcam",
        type=_natural,
        default=3,
        metavar="N",
        help="how many of them show where each model looked; 0: none, and nothing is compiled (3)",
    )
    _add_common(command)
    title, about = features_command.TITLE, features_command.ABOUT
    features_command.add_arguments(add("features", features_command.run, title, about))

    look = look_commands
    look.add_gradcam(add("gradcam", look.run_gradcam, look.GRADCAM, look.GRADCAM_ABOUT))
    look.add_gates(add("gates", look.run_gates, look.GATES, look.GATES_ABOUT))
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--common-videos",
        action="store_true",
        help="take the videos that all files have, where they differ (default: refuse)",
    )


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _metrics(options: argparse.Namespace) -> None:
    name, scores = str(options.scores), read_scores(options.scores)
    if options.json:
        _print_json(show.metrics_json(name, scores, options.resamples, options.bins))
        return
    show.show_metrics(
        show.make_console(),
        name,
        scores,
        resamples=options.resamples,
        bins=options.bins,
        rows=options.rows,
    )


def _compare(options: argparse.Namespace) -> None:
    files = _read((options.first, options.second))
    comparison = compare(files, common=options.common_videos)
    _print_notes(comparison.notes)
    if options.json:
        _print_json(show.comparison_json(files, comparison))
    else:
        show.show_comparison(show.make_console(), files, comparison, rows=options.rows)


def _ensemble(options: argparse.Namespace) -> None:
    if options.out is not None:
        _check_out(options.out, options.scores)
    files = _read(options.scores)
    joined, notes = join(files, options.weights, options.rule, common=options.common_videos)
    _print_notes(notes)
    numbers = {name: summarize(scores) for name, scores in files.items()}
    if options.out is not None:
        write_scores(options.out, joined)
    if options.json:
        _print_json(show.ensemble_json(numbers, joined))
        return
    show.show_ensemble(show.make_console(), numbers, joined)
    if options.out is not None:
        print(f"wrote {options.out}")


def _actions(options: argparse.Namespace) -> None:
    files = _read((options.verb, options.noun))
    actions = combine(files, common=options.common_videos)
    _print_notes(actions.notes)
    if options.json:
        _print_json(show.actions_json(files, actions))
    else:
        show.show_actions(show.make_console(), files, actions)


def _tables(options: argparse.Namespace) -> None:
    table = make_table(_read(find_score_files(options.places)), options.form)
    print((to_latex if options.latex else to_markdown)(table), end="")


def _report(options: argparse.Namespace) -> None:
    from aia_jax.evaluation.report.page import PAGE, write_report

    path = options.out / PAGE
    size, notes = write_report(
        _read(find_score_files(options.places)),
        path,
        data=options.data,
        strips=options.strips,
        gradcam=options.gradcam,
        common=options.common_videos,
    )
    _print_notes(notes)
    print(f"wrote {path} ({size / 1e3:,.0f} kB)")


def _read(paths: Sequence[Path]) -> dict[str, Scores]:
    """The score files by name.

    Raises:
        UserError: a file is named twice or cannot be read.
    """
    files: dict[str, Scores] = {}
    for path in paths:
        if str(path) in files:
            raise UserError(f"{path} is given twice; name each score file once")
        files[str(path)] = read_scores(path)
    return files


def _check_out(out: Path, sources: Sequence[Path]) -> None:
    """Checks, before anything is computed, that the ensemble can be written to `out`.

    Raises:
        UserError: another ending, a source, or a file that is no ensemble's.
    """
    if out.suffix != SUFFIX:
        raise UserError(f"--out {out}: the name must end with {SUFFIX}")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    if not out.exists():
        return
    if any(path.exists() and out.samefile(path) for path in sources):
        raise UserError(f"--out {out} is one of the files to join; give another name")
    if not isinstance(read_scores(out).about, Ensemble):
        raise UserError(
            f"--out {out} holds the scores of a test, which would be lost; give another name"
        )


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=1, allow_nan=False))


def main(argv: list[str] | None = None) -> int | None:
    options = make_parser().parse_args(argv)
    return options.execute(options)


if __name__ == "__main__":
    sys.exit(exit_status(main))
