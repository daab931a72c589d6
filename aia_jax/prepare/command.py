"""The command `prepare_data.py`: its words, its options, what it prints."""

import argparse
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from aia_jax.errors import Stopped, UserError
from aia_jax.prepare import tools
from aia_jax.prepare.cluster import ClusterPool
from aia_jax.prepare.item import RawDataset
from aia_jax.prepare.listing import some
from aia_jax.prepare.manifest import plan_of
from aia_jax.prepare.pool import LocalPool, PreparationError
from aia_jax.prepare.readers import (
    csv_file,
    diving48,
    egtea,
    epic55,
    folders,
    kinetics400,
    lists,
    ssv1,
    ssv2,
    ucf101,
)
from aia_jax.prepare.write import BAD, Storage, prepare
from aia_jax.video.decode import cores
from aia_jax.video.frame_size import FrameSize

# A data set is one module: its docstring is the help text (the first line is the list's),
# add_arguments adds its own options, and read lists its videos.
DATA_SETS = {
    "folders": folders,
    "csv": csv_file,
    "lists": lists,
    "ssv1": ssv1,
    "ssv2": ssv2,
    "diving48": diving48,
    "egtea": egtea,
    "epic55": epic55,
    "kinetics400": kinetics400,
    "ucf101": ucf101,
}

_OWN_VIDEOS = ("folders", "csv", "lists")  # the readers of whatever the user has

_HELP = """Brings raw videos to the form that training reads: TFRecord shards of JPEG frames, with an index and TFDS metadata.

Stopped or killed at any moment, the same command goes on where it was, and the result is the same to the byte. Videos that cannot be
read are listed in OUT/bad.txt. What was found is in OUT/manifest.json.
"""
_STATUS = """exit status: 0 done; 1 done, but some videos are missing or could not be read; 2 wrong input, nothing done; 75 stopped, run
again to go on. 1 also if it could not be finished: a worker process died or the disk is full (run again to go on), or no video of a
split could be read. Then there is no OUT/dataset_info.json, which is written last.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: of the command line; None takes those of this process.

    Returns:
        The exit status: 0, or 1 if videos could not be read or the preparation cannot go on.

    Raises:
        UserError: if the input is wrong; nothing was done then.
        Stopped: on SIGTERM or Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data_set is None:
        parser.print_help()
        return 0
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if options.data_set in tools.TOOLS:
        return tools.TOOLS[options.data_set](options)
    storage = Storage(FrameSize.parse(options.size), options.quality, options.videos_per_shard)
    if not 1 <= options.quality <= 100:
        raise UserError(f"--quality {options.quality}: JPEG qualities are 1 to 100")
    if options.workers < 1 or options.videos_per_shard < 0:
        raise UserError("--workers and --videos-per-shard are counts of at least 1")
    raw, out = _folders(options)
    dataset = _chosen(DATA_SETS[options.data_set].read(raw, options), options)
    plan = plan_of(options.data_set, _deciding(options), dataset)
    _say_what_was_found(dataset, plan)
    try:
        with (
            ClusterPool(options.scheduler)
            if options.scheduler
            else LocalPool(options.workers) as pool
        ):
            manifest = prepare(dataset, plan, storage, out, pool, _command(options, plan))
    except PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _say_what_was_made(manifest, out)


def _parser() -> argparse.ArgumentParser:
    raw_text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="prepare_data.py", description=_HELP, epilog=_STATUS, formatter_class=raw_text
    )
    data_sets = parser.add_subparsers(
        dest="data_set",
        metavar="DATA_SET",
        title="data sets and tools",
        description="--help after one says more",
    )
    for name, reader in DATA_SETS.items():
        one = data_sets.add_parser(
            name,
            help=reader.__doc__.splitlines()[0],
            description=reader.__doc__,
            epilog=_STATUS,
            formatter_class=raw_text,
        )
        one.add_argument(
            "--raw",
            required=True,
            metavar="DIR",
            help="the folder with the raw videos; it is only read",
        )
        one.add_argument(
            "--out", required=True, metavar="DIR", help="where the prepared data set goes"
        )
        one.add_argument(
            "--size",
            default="240x320",
            help="of the stored frames: HEIGHTxWIDTH in pixels, or shortN: short side N, "
            "proportions kept (default: %(default)s)",
        )
        one.add_argument(
            "--quality",
            type=int,
            default=90,
            metavar="N",
            help="of the stored JPEGs, 1 to 100 (default: %(default)s)",
        )
        one.add_argument(
            "--splits",
            nargs="+",
            metavar="SPLIT",
            help="prepare only these splits; class ids stay those of all",
        )
        one.add_argument(
            "--name",
            metavar="NAME",
            help="of the data set, in its file names (default: as the data set, or the raw folder)",
        )
        one.add_argument(
            "--workers",
            type=int,
            default=cores(),
            metavar="N",
            help="processes (default: one a core, %(default)s)",
        )
        one.add_argument(
            "--scheduler",
            metavar="ADDRESS",
            help="of a Dask cluster, as tcp://HOST:8786, whose workers do it instead; they see the "
            "same folders and have this project",
        )
        one.add_argument(
            "--videos-per-shard",
            type=int,
            default=0,
            metavar="N",
            help="the most that one file holds (default: 256; fewer for under 4,096 videos, so "
            "that 16 processes have work)",
        )
        reader.add_arguments(one)
    tools.add_parsers(data_sets)
    return parser


def _folders(options: argparse.Namespace) -> tuple[Path, Path]:
    raw, out = Path(options.raw), Path(options.out)
    if not raw.is_dir():
        what = "is a file; unpack it and give the folder" if raw.exists() else "does not exist"
        raise UserError(f"--raw {raw} {what}")
    raw, out = raw.resolve(), out.resolve()
    if out == raw or raw in out.parents:
        raise UserError(
            f"--out {out} lies in --raw {raw}, where it would be taken for raw data; choose a "
            "folder outside"
        )
    return raw, out


def _chosen(dataset: RawDataset, options: argparse.Namespace) -> RawDataset:
    """The data set under the user's name, with the splits that the user wants."""
    name, videos = options.name or dataset.name, dataset.videos
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(
            f"--name {name}: a letter first, then letters, digits and underscores (it becomes part "
            "of file names)"
        )
    if options.splits:
        there = sorted({video.split for video in videos})
        if missing := [split for split in options.splits if split not in there]:
            raise UserError(
                f"--splits {' '.join(missing)}: there is no such split; there is {some(there)}"
            )
        videos = tuple(video for video in videos if video.split in options.splits)
    there = {video.split for video in videos if not video.missing}
    if gone := sorted({video.split for video in videos} - there):
        raise UserError(
            f"all listed videos of the split {gone[0]} are missing; prepare the others with "
            f"--splits {' '.join(sorted(there))}"
        )
    return replace(dataset, name=name, videos=videos)


def _deciding(options: argparse.Namespace) -> dict[str, Any]:
    """The options that decide what is written, by flag. Where it is written and by how many
    processes is not among them.
    """
    others = ("data_set", "raw", "out", "workers", "scheduler", "name")
    return {
        "--" + name.replace("_", "-"): value
        for name, value in vars(options).items()
        if name not in others
    }


def _command(options: argparse.Namespace, plan: dict[str, Any]) -> str:
    words = [
        "python",
        "prepare_data.py",
        options.data_set,
        "--raw",
        options.raw,
        "--name",
        plan["name"],
    ]
    for flag, value in plan["options"].items():
        if value is not None:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(
        f"by {signal.Signals(number).name}; the finished shards are kept: run the same command "
        "again to go on"
    )


def _say_what_was_found(dataset: RawDataset, plan: dict[str, Any]) -> None:
    counts = ", ".join(f"{count:,} {split}" for split, count in plan["videos"].items())
    classes = "; ".join(f"{len(names):,} ({some(names)})" for names in dataset.class_names.values())
    listed, missing = len(dataset.videos), sum(video.missing for video in dataset.videos)
    found = f"{listed - missing:,} of {listed:,}" if missing else f"{listed:,}"
    print(f"found {found} video{'s' * (listed != 1)} ({counts}); classes: {classes}")
    for remark in dataset.remarks:
        print(f"note: {remark}")
    sys.stdout.flush()


def _say_what_was_made(manifest: dict[str, Any], out: Path) -> int:
    print(f"{manifest['name']} in {out}:")
    table = Table()
    columns = ("split", "videos", "frames", "MB", "shards", "missing", "unreadable")
    for column in columns:
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, facts in manifest["splits"].items():
        numbers = (
            facts["found"],
            facts["frames"],
            facts["bytes"] / 1e6,
            len(facts["shards"]),
            facts["missing"],
            facts["bad"],
        )
        table.add_row(
            split,
            *(
                f"{number:,.1f}" if isinstance(number, float) else f"{number:,}"
                for number in numbers
            ),
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(table)
    if gaps := sum(len(facts["missing_frame_numbers"]) for facts in manifest["splits"].values()):
        print(f"note: videos with gaps in their frame numbers: {gaps:,} (listed in manifest.json)")
    options = f"--config.init_from=WEIGHTS --config.data.dir={shlex.quote(str(out))} {_classes(manifest)}".rstrip()
    print(f"next: python train.py --config {_recipe(manifest)} {options}")
    expected, bad, missing = (
        sum(facts[key] for facts in manifest["splits"].values())
        for key in ("expected", "bad", "missing")
    )
    faults = {"could not be read": bad, "are missing": missing}
    said = " and ".join(
        f"{count:,} of {expected:,} videos {fault}" for fault, count in faults.items() if count
    )
    if said:
        print(f"error: {said}: see {out / BAD}", file=sys.stderr)
    return 1 if said else 0


def _recipe(manifest: dict[str, Any]) -> str:
    """The plainest recipe for the data set."""
    data_set, split = manifest["data_set"], manifest["options"].get("--split")
    if data_set in _OWN_VIDEOS:
        return "configs/own_videos.py"
    return f"configs/{'epic55_verb' if data_set == 'epic55' else data_set}_tsn.py{f':{split}' if split else ''}"


def _classes(manifest: dict[str, Any]) -> str:
    """What a recipe that knows nothing of the data set is told about its classes."""
    if manifest["data_set"] not in _OWN_VIDEOS:
        return ""
    return f"--config.data.num_classes={len(manifest['class_names']['label'])}"
