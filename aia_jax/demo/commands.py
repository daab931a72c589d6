"""The commands of the demo: drawing videos, preparing them, training and testing on them."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from aia_jax.errors import EXIT_STOPPED, Stopped

RECIPE = "configs/demo.py"
_REPOSITORY = Path(__file__).resolve().parents[2]


class StepFailed(Exception):
    """A command of the demo failed; `status` is its exit status."""

    def __init__(self, command: Sequence[str], status: int):
        super().__init__(
            f"status {status} of `{as_typed(command)}`; its message is above, and the same demo "
            "goes on once the cause is gone"
        )
        self.status = status


def parse_flags(
    argv: Sequence[str] | None,
    prog: str,
    description: str,
    extra: Callable[[argparse.ArgumentParser], None] | None = None,
) -> tuple[argparse.Namespace, list[str]]:
    """Reads the flags of a demo.

    Args:
        argv: arguments without the program's name; None takes the process's.
        prog: how the program is called.
        description: one line for `--help`.
        extra: adds the program's own flags.

    Returns:
        A namespace with `seed`, `out` (a Path), `train`, `validation` and what `extra` added; and
        the flags of the form `--config.key=value`. Other flags end the process with argparse's line
        and status 2.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"--config.KEY=VALUE changes a field of {RECIPE} for all networks.",
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
    if extra is not None:
        extra(parser)
    flags, overrides = parser.parse_known_args(argv)
    if unknown := [argument for argument in overrides if not argument.startswith("--config.")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    name = "demo" if flags.seed == 0 else f"demo_seed{flags.seed}"
    flags.out = flags.out or Path("runs") / name
    return flags, overrides


def data_commands(
    out: Path, seed: int, train: int, validation: int, size: Sequence[int]
) -> list[list[str]]:
    """The commands that draw the videos and prepare them.

    Args:
        out: the demo's folder.
        seed: of the videos.
        train: number of training videos.
        validation: number of held-out videos.
        size: (height, width) of the stored frames, pixels.
    """
    videos = str(out / "videos")
    flags = {"--out": videos, "--seed": seed, "--train": train, "--validation": validation}
    draw = [sys.executable, "-m", "aia_jax.demo.synthetic", *_arguments(flags)]
    flags = {
        "--raw": videos,
        "--out": out / "data",
        "--name": "demo",
        "--size": f"{size[0]}x{size[1]}",
    }
    prepare = [sys.executable, script("prepare_data.py"), "folders", *_arguments(flags)]
    return [draw, prepare]


def run_commands(
    out: Path, folder: str, seed: int, recipe: str, overrides: Sequence[str]
) -> list[list[str]]:
    """The commands that train a network and test it.

    Args:
        out: the demo's folder.
        folder: of the run, in the demo's folder.
        seed: of the training.
        recipe: the config file with the network as its argument, "configs/demo.py:tsn".
        overrides: more flags of the form `--config.key=value`.
    """
    flags = [
        *_arguments({"--config": recipe, "--workdir": out / folder}),
        f"--config.data.dir={out / 'data'}",
        f"--config.seed={seed}",
        *overrides,
    ]
    return [[sys.executable, script(name), *flags] for name in ("train.py", "eval.py")]


def run(command: Sequence[str]) -> None:
    """Prints a command, runs it, prints how long it took.

    Raises:
        StepFailed: it ended with a status other than 0.
        Stopped: it was asked to stop, or this process was.
    """
    print(f"\n$ {as_typed(command)}", flush=True)
    started, stop_requests = time.monotonic(), []
    process = subprocess.Popen(command)

    def stop(number: int, frame: FrameType | None) -> None:
        stop_requests.append(number)
        # A terminal sends Ctrl-C (SIGINT) to the command too. A second one would end it before it
        # has saved.
        if number != signal.SIGINT:
            process.send_signal(number)

    old_handlers = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        status = process.wait()
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    if stop_requests or status == EXIT_STOPPED:
        raise Stopped("run the same command again to go on from here")
    if status:
        # A command that signal n has killed has status -n here, and 128 + n in a shell.
        raise StepFailed(command, status if status > 0 else 128 - status)
    print(f"({duration_text(time.monotonic() - started)})", flush=True)


def script(name: str) -> str:
    """The path of a file of the repository, relative to the working directory."""
    return os.path.relpath(_REPOSITORY / name)


def _arguments(flags: Mapping[str, Any]) -> list[str]:
    """Flags and their values as arguments of a command."""
    return [str(argument) for flag in flags.items() for argument in flag]


def as_typed(command: Sequence[str]) -> str:
    """A command as a person types it in a shell."""
    return shlex.join(["python", *command[1:]])


def duration_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
