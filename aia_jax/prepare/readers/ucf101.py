"""UCF101: AVI files in class folders, and one of the three official splits (--split).

  RAW/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi
  RAW/ucfTrainTestlist/classInd.txt        "1 ApplyEyeMakeup": 101 classes, ids from 1
  RAW/ucfTrainTestlist/trainlist01.txt     "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"
  RAW/ucfTrainTestlist/testlist01.txt      "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"

Class ids here count from 0, so they are the official ones less 1. The official test split becomes
the split "validation". Split 1 has 9,537 and 3,783 videos.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import number_classes, read_lines, show_value
from aia_jax.prepare.build_dataset import build_dataset, listed_video
from aia_jax.prepare.raw_dataset import RawDataset, RawVideo
from aia_jax.prepare.raw_folder import find_file, find_sources, first_folder

RECIPE = "configs/ucf101.py:tsn,split={split}"
_FOLDERS = ("ucfTrainTestlist", "UCF101TrainTestSplits-RecognitionTask", "annotations", "splits")
_DESCRIPTION = "of UCF101's train/test splits for action recognition"


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
    """Lists the videos of one of the official splits.

    The class is that of the path: the training list has class ids too, the test list has not.

    Args:
        raw: the folder.
        options: with `split`, 1 to 3.

    Raises:
        UserError: if a list is missing or a line of it is wrong, or no video is there.
    """
    stems = ("classInd", f"trainlist{options.split:02d}", f"testlist{options.split:02d}")
    classes, train, test = (
        find_file(raw, [f"{name}.txt"], _FOLDERS, description=_DESCRIPTION) for name in stems
    )
    pairs = (
        (line.partition(" ")[0], line.partition(" ")[2].strip(), f"{classes}, line {number}")
        for number, line in read_lines(classes)
    )
    names = number_classes(classes, pairs, 1)
    class_ids = {name: k for k, name in enumerate(names)}
    folder = first_folder(raw, ["UCF-101", "UCF101", "videos"])
    sources = find_sources(folder, depth=2)

    def videos(path: Path, split: str) -> Iterator[RawVideo]:
        for number, line in read_lines(path):
            name, _, label = line.partition(" ")
            class_id = class_ids.get(name.partition("/")[0])
            if class_id is None or label.strip() not in ("", str(class_id + 1)):
                raise UserError(
                    f"{path}, line {number}: found {show_value(line)}, expected CLASS/VIDEO.avi, "
                    "then the class's id or nothing"
                )
            video = Path(name).stem
            yield listed_video(
                video, sources.get(video), folder / name, {"label": class_id}, split, row=number
            )

    found = [*videos(train, "train"), *videos(test, "validation")]
    return build_dataset(
        f"ucf101_split{options.split}", {"label": names}, found, [classes, train, test], raw
    )
