"""EGTEA Gaze+, its trimmed action clips: one of the three official splits (--split).

  RAW/cropped_clips/P26-R05-Cheeseburger/P26-R05-Cheeseburger-….mp4     the folder: the first three
  parts of the clip's name RAW/action_idx.txt
  "Inspect/Read recipe 1": 106 names with spaces, from 1 RAW/train_split1.txt, test_split1.txt
  "CLIP ACTION VERB NOUN …", ids from 1

The text files may also lie in RAW/action_annotation, where their archive unpacks. Class ids here
count from 0, so they are the official ones less 1. The official test split becomes the split
"validation". Split 1 has 8,299 and 2,022 clips, of 24 to 2,801 frames.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import (
    dataset,
    find,
    folder_of,
    lines,
    listed,
    numbered_names,
    sources_below,
    whole,
)
from aia_jax.prepare.item import RawDataset, RawVideo

_FOLDERS = ("action_annotation", "action_annotations", "annotations", "splits")
_WHAT = "of EGTEA Gaze+'s action annotations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--split`."""
    parser.add_argument(
        "--split",
        type=int,
        choices=(1, 2, 3),
        default=1,
        help="which official split (default: %(default)s)",
    )


def read(raw: Path, options: argparse.Namespace) -> RawDataset:
    """Lists the clips of one of the official splits.

    Args:
        raw: the folder.
        options: with `split`, 1 to 3.

    Raises:
        UserError: if an annotation file is missing or a line of it is wrong, or no clip is there.
    """
    wanted = ("action_idx", f"train_split{options.split}", f"test_split{options.split}")
    actions, train, test = (find(raw, [f"{name}.txt"], _FOLDERS, what=_WHAT) for name in wanted)
    pairs = (
        (line.rpartition(" ")[2], line.rpartition(" ")[0].strip(), f"{actions}, line {number}")
        for number, line in lines(actions)
    )
    names = numbered_names(actions, pairs, 1)
    folder = folder_of(raw, ["cropped_clips"])
    sources = sources_below(folder, depth=2)

    def clips(path: Path, split: str) -> Iterator[RawVideo]:
        for number, line in lines(path):
            where = f"{path}, line {number}"
            clip, *ids = line.split()
            if not ids:
                raise UserError(f"{where}: found {line!r}, expected CLIP ACTION VERB NOUN …")
            label = whole(ids[0], where, 1, len(names) + 1) - 1
            expected = folder / "-".join(clip.split("-")[:3]) / f"{clip}.mp4"
            yield listed(clip, sources.get(clip), expected, {"label": label}, split)

    found = [*clips(train, "train"), *clips(test, "validation")]
    return dataset(
        f"egtea_split{options.split}", {"label": names}, found, [actions, train, test], raw
    )
