"""EGTEA Gaze+, its trimmed action clips: one of the three official splits (--split).

  RAW/cropped_clips/P26-R05-Cheeseburger/P26-R05-Cheeseburger-….mp4
                            the folder is named by the first three parts of the clip's name
  RAW/action_idx.txt        "Inspect/Read recipe 1": 106 names with spaces, ids from 1
  RAW/train_split1.txt      "CLIP ACTION VERB NOUN …", ids from 1
  RAW/test_split1.txt

The text files may also lie in RAW/action_annotation, where their archive unpacks. Class ids here
count from 0, so they are the official ones less 1. The official test split becomes the split
"validation". Split 1 has 8,299 and 2,022 clips, of 24 to 2,801 frames.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import number_classes, parse_int, read_lines, show_value
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import find_file, find_sources, first_folder

RECIPE = "configs/egtea.py:tsn,split={split}"
_FOLDERS = ("action_annotation", "action_annotations", "annotations", "splits")
_DESCRIPTION = "of EGTEA Gaze+'s action annotations"


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
    stems = ("action_idx", f"train_split{options.split}", f"test_split{options.split}")
    actions, train, test = (
        find_file(raw, [f"{name}.txt"], _FOLDERS, description=_DESCRIPTION) for name in stems
    )
    pairs = (
        (line.rpartition(" ")[2], line.rpartition(" ")[0].strip(), f"{actions}, line {number}")
        for number, line in read_lines(actions)
    )
    names = number_classes(actions, pairs, 1)
    folder = first_folder(raw, ["cropped_clips"])
    sources = find_sources(folder, depth=2)

    def clips(path: Path, split: str) -> Iterator[RawVideo]:
        for number, line in read_lines(path):
            where = f"{path}, line {number}"
            clip, *ids = line.split()
            if not ids:
                raise UserError(
                    f"{where}: found {show_value(line)}, expected CLIP ACTION VERB NOUN …"
                )
            label = parse_int(ids[0], where, 1, len(names) + 1) - 1
            expected = folder / "-".join(clip.split("-")[:3]) / f"{clip}.mp4"
            yield listed_video(
                clip, sources.get(clip), expected, {"label": label}, split, row=number
            )

    found = [*clips(train, "train"), *clips(test, "validation")]
    return build_dataset(
        f"egtea_split{options.split}", {"label": names}, found, [actions, train, test], raw
    )
