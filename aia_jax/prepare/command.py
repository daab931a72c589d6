"""The command `prepare_data.py`: its options and its checks, then the preparation."""

import argparse
import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from aia_jax.errors import Stopped, UserError, shorten
from aia_jax.prepare import tools
from aia_jax.prepare.cluster import ClusterPool
from aia_jax.prepare.manifest import make_plan
from aia_jax.prepare.pool import LocalPool, PreparationError
from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.raw_folder import abbreviate
from aia_jax.prepare.readers import READERS
from aia_jax.prepare.summary import print_found, print_result
from aia_jax.prepare.write import prepare
from aia_jax.processes.ending import ignore_stop_signals
from aia_jax.video.decode import cores
from aia_jax.video.frame_size import DEFAULT_QUALITY, FrameFormat, FrameSize

_HELP = """\
Brings raw videos to the form that training reads: TFRecord shards of JPEG frames, with an index and
TFDS metadata.

    python prepare_data.py folders --raw videos --out data/mine      videos in a folder a class
    python prepare_data.py ssv2 --help                               the layout that it expects

If the command is stopped or killed at any moment, the same command goes on where it was, and the
result is the same to the byte. Videos that cannot be read are listed in OUT/bad.txt. What was found
is in OUT/manifest.json.
"""
_STATUS = """\
exit status: 0 done; 1 done, but some videos are missing or could not be read; 2 wrong input,
nothing done; 75 stopped, run again to go on. 1 also if it could not be finished: a worker process
died or the disk is full (run again to go on), or no video of a split could be read. Then there is
no OUT/dataset_info.json, which is written last.
"""
_SIZE, _OWN_SIZE = "240x320", "short256"  # of the paper's data sets, and of own videos
_LONGEST_NAME = 100  # letters; file systems take 255, of which a shard's number and host need some
# Options that do not change the bytes of the result.
_NOT_IN_PLAN = ("data_set", "raw", "out", "workers", "scheduler", "name")


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
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.data_set is None:
        parser.print_help()
        return 0
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if options.data_set in tools.TOOLS:
        return tools.TOOLS[options.data_set](options)
    frame_format = FrameFormat(FrameSize.parse(options.size), options.quality, options.frames or "")
    if not 1 <= options.quality <= 100:
        raise UserError(f"--quality {options.quality}: JPEG qualities are 1 to 100")
    if options.workers < 1 or options.videos_per_shard < 0:
        raise UserError("--workers and --videos-per-shard are counts of at least 1")
    raw, out = _check_folders(options)
    dataset = _select(READERS[options.data_set].read(raw, options), options)
    plan = make_plan(options.data_set, _plan_options(options), dataset)
    print_found(dataset, plan)
    pool = ClusterPool(options.scheduler) if options.scheduler else LocalPool(options.workers)
    try:
        with pool:
            manifest = prepare(
                dataset,
                plan,
                frame_format,
                out,
                pool,
                _command_line(options, plan),
                options.videos_per_shard,
            )
    except PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return print_result(manifest, out)


def _make_parser() -> argparse.ArgumentParser:
    raw_text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="prepare_data.py", description=_HELP, epilog=_STATUS, formatter_class=raw_text
    )
    commands = parser.add_subparsers(
        dest="data_set",
        metavar="DATA_SET",
        title="data sets and tools",
        description="--help after one says more",
    )
    for name, reader in READERS.items():
        command = commands.add_parser(
            name,
            help=reader.__doc__.splitlines()[0],
            description=reader.__doc__,
            epilog=_STATUS,
            formatter_class=raw_text,
        )
        _add_options(command)
        if not getattr(reader, "RECIPE", ""):  # own videos: a portrait clip is not stretched
            command.set_defaults(size=_OWN_SIZE)
        reader.add_arguments(command)
    tools.add_parsers(commands)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all data sets have."""
    parser.add_argument(
        "--raw",
        required=True,
        metavar="DIR",
        help="the folder with the raw videos; it is only read",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where the prepared data set goes"
    )
    parser.add_argument(
        "--size",
        default=_SIZE,
        help="of the stored frames: HEIGHTxWIDTH in pixels, or shortN: short side N, "
        "proportions kept (default: %(default)s)",
    )
    parser.add_argument(
        "--quality",
        type=int,
        default=DEFAULT_QUALITY,
        metavar="N",
        help="of the stored JPEGs, 1 to 100 (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        metavar="PATTERN",
        help="which pictures of a folder or archive are its frames, as 'img_*.jpg' (default: the "
        "only kind; of RGB pictures and optical flow the RGB ones)",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        metavar="SPLIT",
        help="prepare only these splits; class ids stay those of all",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="of the data set, in its file names (default: as the data set, or the raw folder)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=cores(),
        metavar="N",
        help="processes (default: one a core, %(default)s)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster, as tcp://HOST:8786, whose workers do it instead; they see the "
        "same folders and have this project",
    )
    parser.add_argument(
        "--videos-per-shard",
        type=int,
        default=0,
        metavar="N",
        help="the most that one file holds (default: 256; fewer for under 4,096 videos, so "
        "that 16 processes have work)",
    )


def _check_folders(options: argparse.Namespace) -> tuple[Path, Path]:
    """The absolute paths of the raw folder and of the output folder."""
    raw, out = Path(options.raw), Path(options.out)
    for option, path in (("--raw", raw), ("--out", out)):
        try:
            os.stat(path)  # noqa: PTH116
            path.resolve()
        except (FileNotFoundError, NotADirectoryError):
            continue  # said below, or made
        except (OSError, RuntimeError, ValueError) as error:  # Runtime: links that form a loop
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"{option} {shorten(path)} cannot be used ({reason}); give another folder"
            ) from error
    if not raw.is_dir():
        found = "is a file; unpack it and give the folder" if raw.exists() else "does not exist"
        raise UserError(f"--raw {raw} {found}")
    raw, out = raw.resolve(), out.resolve()
    if out == raw or raw in out.parents:
        raise UserError(
            f"--out {out} lies in --raw {raw}, where it would be taken for raw data; choose a "
            "folder outside"
        )
    return raw, out


def _select(dataset: RawDataset, options: argparse.Namespace) -> RawDataset:
    """The data set under the name and with the splits that the user chose."""
    name, videos = options.name or dataset.name, dataset.videos
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(
            f"--name {name}: a letter first, then letters, digits and underscores (it becomes part "
            "of file names)"
        )
    if len(name) > _LONGEST_NAME:
        raise UserError(
            f"the data set's name {shorten(name)} has {len(name)} letters and becomes part of file "
            f"names; give one of at most {_LONGEST_NAME} with --name"
        )
    if options.splits:
        found = sorted({video.split for video in videos})
        if unknown := [split for split in options.splits if split not in found]:
            raise UserError(
                f"--splits {' '.join(unknown)}: there is no such split; there is "
                f"{abbreviate(found)}"
            )
        videos = tuple(video for video in videos if video.split in options.splits)
    usable = {video.split for video in videos if not video.missing}
    if missing := sorted({video.split for video in videos} - usable):
        raise UserError(
            f"all listed videos of the split {missing[0]} are missing; prepare the others with "
            f"--splits {' '.join(sorted(usable))}"
        )
    return replace(dataset, name=name, videos=videos)


def _plan_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options that change the result, by flag."""
    return {
        "--" + name.replace("_", "-"): value
        for name, value in vars(options).items()
        if name not in _NOT_IN_PLAN
    }


def _command_line(options: argparse.Namespace, plan: dict[str, Any]) -> str:
    """A command line, without --out, that makes the same data set."""
    words = ["python", "prepare_data.py", options.data_set]
    words += ["--raw", options.raw, "--name", plan["name"]]
    for flag, value in plan["options"].items():
        if value is True:
            words.append(flag)
        elif value is not None:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    ignore_stop_signals()  # a second one would interrupt the end of the workers
    raise Stopped(
        f"by {signal.Signals(number).name}; the finished shards are kept: run the same command "
        "again to go on"
    )
