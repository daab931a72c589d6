"""UCF101: AVI files in class folders, and one of the three official splits (--split).

  RAW/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
  RAW/ucfTrainTestlist/classInd.txt              "1 ApplyEyeMakeup": 101 classes, ids from 1
  RAW/ucfTrainTestlist/trainlist01.txt           "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
  RAW/ucfTrainTestlist/testlist01.txt            "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"

Class ids here count from 0, so they are the official ones less 1. The official test split becomes
the split "validation". Split 1 has 9,537 and 3,783 videos.
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
)
from aia_jax.prepare.item import RawDataset, RawVideo

_FOLDERS = ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask", "annotations", "splits")
_WHAT = "of UCF101's train/test splits for action recognition"


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
    """Lists the videos of one of the official splits; the class is that of the path, which both
    lists have.

    Args:
        raw: the folder.
        options: with `split`, 1 to 3.

    Raises:
        UserError: if a list is missing or a line of it is wrong, or no video is there.
    """
    wanted = ("classInd", f"trainlist{options.split:02d}", f"testlist{options.split:02d}")
    classes, train, test = (find(raw, [f"{name}.txt"], _FOLDERS, what=_WHAT) for name in wanted)
    pairs = (
        (line.partition(" ")[0], line.partition(" ")[2].strip(), f"{classes}, line {number}")
        for number, line in lines(classes)
    )
    names = numbered_names(classes, pairs, 1)
    class_ids = {name: k for k, name in enumerate(names)}
    folder = folder_of(raw, ["UCF-101", "UCF101", "videos"])
    sources = sources_below(folder, depth=2)

    def videos(path: Path, split: str) -> Iterator[RawVideo]:
        for number, line in lines(path):
            name, _, label = line.partition(" ")
            class_name = name.partition("/")[0]
            if class_name not in class_ids or label.strip() not in (
                "",
                str(class_ids[class_name] + 1),
            ):
                raise UserError(
                    f"{path}, line {number}: found {line!r}, expected CLASS/VIDEO.avi, then the "
                    "class's id or nothing"
                )
            video = Path(name).stem
            yield listed(
                video, sources.get(video), folder / name, {"label": class_ids[class_name]}, split
            )

    found = [*videos(train, "train"), *videos(test, "validation")]
    return dataset(
        f"ucf101_split{options.split}", {"label": names}, found, [classes, train, test], raw
    )
