"""One of each network on the demo's videos: `python -m aia_jax.demo.family` or `make demo-family`.

Draws and prepares the demo's videos, as `python -m aia_jax.demo` does, trains and tests a narrow
network of every kind, and compares what it reaches with what it can: a network that sees the order
of frames must tell a video from its reverse, and one that does not see it must not. Run again after
a stop, it goes on where it was; finished runs are not repeated.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax.checkpoints.last_result import RESULT_FILE
from aia_jax.demo.commands import (
    RECIPE,
    StepFailed,
    data_commands,
    duration_text,
    parse_flags,
    run,
    run_commands,
    script,
)
from aia_jax.demo.page import write_page
from aia_jax.errors import UserError, exit_status
from aia_jax.files import write_text
from aia_jax.training.startup import RUN_FILE

RESULTS, PAGE, RUNS = "family.json", "family.html", "family"
TITLE = "The family: who can tell a video from its reverse?"
SEEING = 0.9  # top-1 that a network which sees the order of frames must pass
# One that does not see it gives a video and its reverse one answer, and is right about one of them
# if it knows their pair of classes: its top-1 is half of the pairs that it knows. It must know 70%
# of them, so that it has learned something; above 50% only rounding could bring it.
BLIND = (0.35, 0.55)


class Member(NamedTuple):
    """A network of the family, and what it can do here."""

    argument: str  # of configs/demo.py
    sees_order: bool  # of the frames
    why: str


_MEAN_OF_LOGITS = "each frame for itself, the mean of logits"
_MEAN_OVER_FRAMES = "gates of means over all frames"
FAMILY = (
    Member("tsn", False, _MEAN_OF_LOGITS),
    Member("vit", False, _MEAN_OF_LOGITS),
    Member("se3d", False, _MEAN_OVER_FRAMES),
    Member("ge3d_g", False, _MEAN_OVER_FRAMES),
    Member("s3d_g", False, _MEAN_OVER_FRAMES),
    Member("ge3d_dw133", False, "gates of convolutions within a frame"),
    Member("cbam3d177", False, f"{_MEAN_OVER_FRAMES}, and within a frame"),
    Member("ge3d_dw333", True, "gates of convolutions over frames"),
    Member("cbam3d377", True, "gates of convolutions over frames"),
    Member("c", True, "a gate of a convolution over frames"),
    Member("aia_tsn", True, "gates of convolutions over frames"),
    Member("tsm", True, "channels of the frames beside"),
    Member("tsm_nl", True, "channels of the frames beside, attention over all"),
    Member("h2cn", True, "differences of consecutive frames, channels of the frames beside"),
    Member("gst", True, "convolutions over frames"),
    Member("c3d", True, "convolutions over frames"),
    Member("tokshift", True, "the class token's channels of the frames beside"),
    Member("msca_kv", True, "keys and values of the frames beside"),
)


def passes(member: Member, top1: float) -> bool:
    """Whether a network reaches what it can, and not what it cannot."""
    return top1 >= SEEING if member.sees_order else BLIND[0] <= top1 <= BLIND[1]


def expectation(member: Member) -> str:
    """What a network's top-1 must be, in words."""
    if member.sees_order:
        return f"at least {SEEING:.0%}"
    return f"{BLIND[0]:.0%} to {BLIND[1]:.0%}"


def choose(names: str) -> list[Member]:
    """The members that `--only` names, with commas between them; all for "".

    Raises:
        UserError: for a name that is none.
    """
    members = {member.argument: member for member in FAMILY}
    wanted = [name.strip() for name in names.split(",")] if names.strip() else list(members)
    for name in wanted:
        if name not in members:
            raise UserError(f"--only: there is no {name!r} in the family; {', '.join(members)}")
    return [member for member in FAMILY if member.argument in wanted]


def is_finished(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a run with this config was trained to its end and tested.

    A test is newer than the last start of the training that it belongs to.

    Args:
        folder: of the run.
        config: what it would be started with, as `config.to_json` writes it.
    """
    run_file, result_file = folder / RUN_FILE, folder / RESULT_FILE
    if not (run_file.exists() and result_file.exists()):
        return False
    started_with = json.loads(run_file.read_text())["starts"][-1]["config"]
    # A run's config has what the data say of these, where the recipe leaves it to them.
    data = dict(config["data"])
    for field in ("num_classes", "label_kind"):
        data[field] = data[field] or started_with["data"].get(field)
    config = {**config, "data": data}
    is_newer = result_file.stat().st_mtime_ns >= run_file.stat().st_mtime_ns
    return is_newer and started_with == config


def make_row(member: Member, folder: Path, seconds: float | None) -> dict[str, Any]:
    """A network's row of `family.json`.

    Args:
        member: the network.
        folder: of its finished run.
        seconds: of training and test; None: not known.
    """
    result = json.loads((folder / RESULT_FILE).read_text())
    return {
        "argument": member.argument,
        "network": result["about"]["network"],
        "sees_order": member.sees_order,
        "why": member.why,
        "params": result["about"]["params"],
        "macs": result["about"]["macs"],
        "top1": result["top1"],
        "evaluated": result["evaluated"],
        "seconds": seconds,
        "expected": expectation(member),
        "passed": passes(member, result["top1"]),
    }


def main(argv: list[str] | None = None) -> int:
    """Trains and tests the family.

    Returns:
        The exit status: 0, that of a command that failed, or 1 if a network misses what is expected
        of it.

    Raises:
        UserError: for a wrong `--config.key=value` or `--only`.
        Stopped: see `run`.
    """

    def only(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--only", default="", metavar="NAMES", help="such as tsn,vit,msca_kv")

    flags, overrides = parse_flags(
        argv, "python -m aia_jax.demo.family", __doc__.splitlines()[0], only
    )
    members, recipe = choose(flags.only), script(RECIPE)
    fields = [f"data.dir={flags.out / 'data'}", f"seed={flags.seed}"]
    fields += [argument.removeprefix("--config.") for argument in overrides]
    resolved = {m.argument: configs.load(f"{recipe}:{m.argument}", fields) for m in members}

    results = flags.out / RESULTS
    found = json.loads(results.read_text()) if results.exists() else []
    rows = {row["argument"]: row for row in found}
    size = resolved[members[0].argument].data.resize
    try:
        for command in data_commands(flags.out, flags.seed, flags.train, flags.validation, size):
            run(command)
        for member in members:
            name, folder = member.argument, flags.out / RUNS / member.argument
            seconds = rows.get(name, {}).get("seconds")
            if not is_finished(folder, json.loads(configs.to_json(resolved[name]))):
                started = time.monotonic()
                run_folder = f"{RUNS}/{name}"
                for command in run_commands(
                    flags.out, run_folder, flags.seed, f"{recipe}:{name}", overrides
                ):
                    run(command)
                seconds = time.monotonic() - started
            rows[name] = make_row(member, folder, seconds)
            write_text(results, json.dumps(list(rows.values()), indent=1) + "\n")
    except StepFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.status

    of_members = [rows[member.argument] for member in members]
    write_page(flags.out / PAGE, TITLE, [flags.out / RUNS / row["argument"] for row in of_members])
    print_table(of_members)
    print(f"results: {results}, {flags.out / PAGE}")
    missed = [row["argument"] for row in of_members if not row["passed"]]
    if missed:
        print(f"not as expected: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the rows of `family.json`, and why so much is expected of the networks."""
    table = Table("network", title=TITLE, box=box.SIMPLE_HEAD)
    for column in ("parameters", "MACs", "top-1", "time", "expected"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["argument"],
            f"{row['params']:,}",
            f"{row['macs'] / 1e6:.1f} M",
            f"{row['top1']:.1%}",
            "" if row["seconds"] is None else duration_text(row["seconds"]),
            row["expected"] + ("" if row["passed"] else ": MISSED"),
            style=None if row["passed"] else "bold",
        )
    print()
    Console().print(table)
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reasons.setdefault((row["expected"], row["why"]), []).append(row["argument"])
    for (expected, why), names in reasons.items():
        print(f"{', '.join(names)}: {expected} ({why})")


if __name__ == "__main__":
    sys.exit(exit_status(main))
