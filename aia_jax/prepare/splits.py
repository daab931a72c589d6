"""Names of splits, and a validation split for data sets that come without one."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from aia_jax.errors import UserError
from aia_jax.prepare.raw_dataset import RawVideo, id_hash

# The names of splits in raw folders and CSV columns, in lower case → the names used here.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def add_val_share(parser: argparse.ArgumentParser, condition: str) -> None:
    """Adds `--val-share`; `condition` says when it has an effect."""
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help=f"{condition}: the share of each class that becomes the split validation, chosen by a "
        "hash of the video ids, so every run chooses the same; at least one video of a class that "
        "has two; 0: none (default: %(default)s)",
    )


def check_val_share(share: float) -> None:
    """Checks the value of `--val-share`.

    Raises:
        UserError: unless 0 ≤ share < 1.
    """
    if not 0 <= share < 1:
        raise UserError(
            f"--val-share {share}: give a share from 0 up to 1, as 0.1; 1 itself would leave "
            "nothing to train on"
        )


def split_off_validation(videos: Sequence[RawVideo], share: float) -> list[RawVideo]:
    """Moves a share of each class to the split validation and all other videos to train.

    The videos whose ids have the smallest hashes move. The class is that of the feature "label".
    """
    by_class = defaultdict(list)
    for video in videos:
        by_class[video.labels["label"]].append(video.video_id)
    validation = set()
    for ids in by_class.values():
        count = min(max(1, round(share * len(ids))), len(ids) - 1) if share else 0
        validation.update(sorted(ids, key=lambda one: (id_hash(one, "split"), one))[:count])
    return [
        replace(video, split="validation" if video.video_id in validation else "train")
        for video in videos
    ]
