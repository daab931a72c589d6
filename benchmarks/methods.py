"""Measures ways to train on the demo's videos: top-1 of each, over seeds, with many and few videos.

    python -m benchmarks.methods                        # 45 runs; some hours on two cores
    python -m benchmarks.methods --methods plain svmix --videos 240 --seeds 3

Every run has the same number of steps, so few videos are seen more often: a method that prevents
learning them by heart shows there. Nothing is chosen: a method has the strength that its paper or
the recipe gives it, and the network is tested as it is after the last step (SV-Mix: the teacher).
The few videos are the first of the many, the held-out videos are the same. With 240 videos plain
TSM still learns all there is; 64 are few.

Run again after a stop, it goes on where it was; finished runs are not repeated. Results lie in
methods.json of the folder.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aia_jax import config as configs
from aia_jax.checkpoints.last_result import RESULT_FILE
from aia_jax.demo.commands import RECIPE, StepFailed, data_commands, run, run_commands, script
from aia_jax.demo.family import is_finished
from aia_jax.errors import exit_status
from aia_jax.files import write_text

RESULTS = "methods.json"
FULL = 960  # videos for training that the demo's recipe counts its epochs in
HELD_OUT = 416  # videos


class Method(NamedTuple):
    """A way to train: what follows the network in the recipe's argument, and what is set."""

    argument: str = ""
    fields: tuple[str, ...] = ()


METHODS: Mapping[str, Method] = {
    "plain": Method(),
    "smoothing": Method(fields=("train.label_smoothing=0.1",)),  # which SV-Mix has too
    "mixup": Method(fields=("train.mixup=0.2",)),
    "cutmix": Method(fields=("train.cutmix=1.0",)),
    "svmix": Method(",svmix"),
    "randaugment": Method(fields=("data.randaugment=2",)),
}
DEFAULT = [name for name in METHODS if name != "smoothing"]


class Run(NamedTuple):
    """One training, and the row of `methods.json` that it gives."""

    network: str
    method: str
    steps: int
    videos: int  # for training
    seed: int

    @property
    def folder(self) -> str:
        """Where it lies in the folder of its videos."""
        return f"{self.network}_{self.method}_{self.steps}_seed{self.seed}"


def overrides(method: str, epochs: int, warmup_epochs: float) -> list[str]:
    """The fields that a run sets, "key=value" each; the learning rate falls after two thirds."""
    return [
        *METHODS[method].fields,
        f"train.epochs={epochs}",
        f"optim.milestones={max(1, round(epochs * 2 / 3))}",
        f"optim.warmup_epochs={warmup_epochs:g}",
        # The last epoch alone is validated, so it is the one that is tested.
        f"train.val_every={epochs}",
    ]


def summary(top1: Sequence[float]) -> str:
    """The mean over seeds in percent, and their spread: "93.4 (91.1 to 95.0)"."""
    mean = f"{100 * statistics.mean(top1):.1f}"
    return f"{mean} ({100 * min(top1):.1f} to {100 * max(top1):.1f})" if len(top1) > 1 else mean


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the rows of `methods.json`: a method a line, top-1 by the number of videos."""
    sizes = sorted({row["videos"] for row in rows}, reverse=True)
    heads = [f"{size} videos" for size in sizes]
    print(f"\n| top-1, % | {' | '.join(heads)} | minutes a run |")
    print(f"|---|{'---|' * (len(sizes) + 1)}")
    for method in dict.fromkeys(row["method"] for row in rows):
        found = [row for row in rows if row["method"] == method]
        cells = [[row["top1"] for row in found if row["videos"] == size] for size in sizes]
        minutes = statistics.median(row["seconds"] for row in found) / 60
        texts = [summary(cell) if cell else "" for cell in cells]
        print(f"| {method} | {' | '.join(texts)} | {minutes:.1f} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, tests and prints.

    Returns:
        The exit status: 0, or that of a command that failed.

    Raises:
        UserError: a recipe that cannot be read.
        Stopped: see `aia_jax.demo.commands.run`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.methods",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--network", default="tsm", help=f"of {RECIPE} (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=DEFAULT, choices=list(METHODS))
    parser.add_argument(
        "--videos",
        type=int,
        nargs="+",
        default=[FULL, FULL // 4, 64],
        help="for training (default: 960 240 64)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--steps", type=int, default=360, help="of a run (default: 360)")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), metavar="DIR")
    options = parser.parse_args(argv)

    recipe, results = script(RECIPE), options.out / RESULTS
    found = json.loads(results.read_text()) if results.exists() else []
    rows = {Run(*(row[name] for name in Run._fields)): row for row in found}
    chosen = [
        Run(options.network, method, options.steps, videos, seed)
        for seed in range(options.seeds)  # the first seed of everything comes first
        for videos in options.videos
        for method in options.methods
    ]
    defaults = configs.load(f"{recipe}:{options.network}")
    try:
        for videos in options.videos:
            for command in data_commands(
                options.out / str(videos), 0, videos, HELD_OUT, defaults.data.resize
            ):
                run(command)
        for cell in chosen:
            base = options.out / str(cell.videos)
            argument = f"{recipe}:{options.network}{METHODS[cell.method].argument}"
            epoch = cell.videos // defaults.train.batch_size  # steps
            warmup = defaults.optim.warmup_epochs * FULL / cell.videos
            fields = overrides(cell.method, max(1, round(options.steps / epoch)), warmup)
            where = [f"data.dir={base / 'data'}", f"seed={cell.seed}"]
            config = configs.load(argument, [*where, *fields])
            folder = base / cell.folder
            seconds = rows[cell]["seconds"] if cell in rows else None
            if seconds is None or not is_finished(folder, json.loads(configs.to_json(config))):
                started = time.monotonic()
                flags = [f"--config.{field}" for field in fields]
                for command in run_commands(base, cell.folder, cell.seed, argument, flags):
                    run(command)
                seconds = time.monotonic() - started
            result = json.loads((folder / RESULT_FILE).read_text())
            rows[cell] = {**cell._asdict(), "top1": result["top1"], "seconds": seconds}
            write_text(results, json.dumps(list(rows.values()), indent=1) + "\n")
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.status
    print_table([rows[cell] for cell in chosen])
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
