"""What `prepare_data.py` prints: the videos found, the data set written, and the next command."""

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.raw_folder import abbreviate
from aia_jax.prepare.readers import READERS
from aia_jax.shards.manifest import BAD

_OWN_VIDEOS_RECIPE = "configs/own_videos.py"


def print_found(dataset: RawDataset, plan: dict[str, Any]) -> None:
    """Prints what the reader found, before any video is opened."""
    counts = ", ".join(f"{count:,} {split}" for split, count in plan["videos"].items())
    classes = "; ".join(
        f"{len(names):,} ({abbreviate(names)})" for names in dataset.class_names.values()
    )
    listed, missing = len(dataset.videos), sum(video.missing for video in dataset.videos)
    found = f"{listed - missing:,} of {listed:,}" if missing else f"{listed:,}"
    print(f"found {found} video{'s' * (listed != 1)} ({counts}); classes: {classes}")
    for remark in dataset.remarks:
        print(f"note: {remark}")
    sys.stdout.flush()


def print_result(manifest: dict[str, Any], out: Path) -> int:
    """Prints a table of the splits and the next command; returns the exit status."""
    splits = manifest["splits"]
    print(f"{manifest['name']} in {out}:")
    table = Table("split")
    for column in ("videos", "frames", "MB", "shards", "missing", "unreadable"):
        table.add_column(column, justify="right")
    for split, facts in splits.items():
        table.add_row(
            split,
            f"{facts['found']:,}",
            f"{facts['frames']:,}",
            f"{facts['bytes'] / 1e6:,.1f}",
            f"{len(facts['shards']):,}",
            f"{facts['missing']:,}",
            f"{facts['bad']:,}",
        )
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(table)
    if gaps := sum(len(facts["missing_frame_numbers"]) for facts in splits.values()):
        print(f"note: videos with gaps in their frame numbers: {gaps:,} (listed in manifest.json)")
    print(f"next: {_training_command(manifest, out)}")
    expected, bad, missing = (
        sum(facts[key] for facts in splits.values()) for key in ("expected", "bad", "missing")
    )
    failures = " and ".join(
        f"{count:,} of {expected:,} videos {failure}"
        for count, failure in ((bad, "could not be read"), (missing, "are missing"))
        if count
    )
    if failures:
        print(f"error: {failures}: see {out / BAD}", file=sys.stderr)
    return 1 if failures else 0


def _training_command(manifest: dict[str, Any], out: Path) -> str:
    """The simplest command that trains on the data set."""
    recipe, settings = getattr(READERS[manifest["data_set"]], "RECIPE", ""), []
    if recipe:
        options = {flag[2:].replace("-", "_"): v for flag, v in manifest["options"].items()}
        recipe = recipe.format_map(options)
    else:  # the recipe does not know the classes
        recipe = _OWN_VIDEOS_RECIPE
        label, names = next(iter(manifest["class_names"].items()))
        settings = [f"--config.data.label={label}"] if label != "label" else []
        settings.append(f"--config.data.num_classes={len(names)}")
    words = ["python", "train.py", "--config", recipe, "--config.init_from=WEIGHTS"]
    return " ".join([*words, f"--config.data.dir={shlex.quote(str(out))}", *settings])
