"""What `prepare_data.py` prints: the videos found, the data set written, and the next command."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from aia_jax.prepare.next_command import training_command
from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.raw_folder import abbreviate
from aia_jax.shards.class_names import notes_on_classes
from aia_jax.shards.manifest import BAD
from aia_jax.video.frame_folder import WITHOUT

_SHOWN = 3  # of the entries of a note


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
    width = None if sys.stdout.isatty() else 120
    Console(file=sys.stdout, width=width, markup=False).print(table)
    if gaps := sum(len(facts["missing_frame_numbers"]) for facts in splits.values()):
        print(f"note: videos with gaps in their frame numbers: {gaps:,} (listed in manifest.json)")
    # Manifests of older versions lack this number.
    if unchecked := sum(facts.get("end_unchecked", 0) for facts in splits.values()):
        print(
            f"note: videos in files that do not say how long they are: {unchecked:,} (MPEG-TS, "
            "live recordings and the like); what such a file holds was read, but it may be cut off"
        )
    if unlike := [
        f"{video_id}: {listed:,} listed, {found:,} found"
        for facts in splits.values()
        for video_id, (listed, found) in sorted(facts.get("other_lengths", {}).items())
    ]:
        print(
            f"note: videos with far other numbers of frames than the list says: {len(unlike):,} "
            f"({'; '.join(unlike[:_SHOWN])}{'; …' if len(unlike) > _SHOWN else ''}; all are in "
            "manifest.json); if these are no FRAMES, say what the columns are with --columns"
        )
    if chosen := sorted(
        {form for facts in splits.values() for form in facts["sources"] if WITHOUT in form}
    ):
        print(
            f"note: folders with other pictures beside the frames: {'; '.join(chosen[:_SHOWN])}; "
            "--frames chooses"
        )
    for note in _notes_on_classes(manifest):
        print(f"note: {note}")
    for split, use in (("train", "to train on"), ("validation", "to validate with")):
        if split not in splits:
            print(f"note: there is no split {split} {use}, which train.py needs")
    command, advice = training_command(manifest, out)
    print(f"next: {command}")
    if advice:
        print(f"      {advice}")
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


def _notes_on_classes(manifest: dict[str, Any]) -> list[str]:
    """What `print_found` has not said: classes of which a split has no readable video."""
    notes = []
    for label, names in manifest["class_names"].items():
        counts = {
            split: [facts["videos_per_class"].get(label, {}).get(name, 0) for name in names]
            for split, facts in manifest["splits"].items()
        }
        about = f"{label}: " if len(manifest["class_names"]) > 1 else ""
        notes += [about + note for note in notes_on_classes(names, counts)]
    return [note for note in notes if note not in manifest["remarks"]]
