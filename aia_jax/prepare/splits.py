"""The names of splits, and a validation split for data that come without one."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from aia_jax.errors import UserError
from aia_jax.prepare.item import RawVideo, id_hash

# What folders and columns call a split → its name here.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def add_val_share(parser: argparse.ArgumentParser, when: str) -> None:
    """Adds `--val-share`; `when` says in which case it counts."""
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help=f"{when}: the share of each class that becomes the split validation, chosen by a hash "
        "of the video ids, "
        "so every run chooses the same; at least one video of a class that has two; 0: none "
        "(default: %(default)s)",
    )


def check_val_share(share: float) -> None:
    """Raises UserError unless 0 ≤ share < 1."""
    if not 0 <= share < 1:
        raise UserError(
            f"--val-share {share}: give a share from 0 up to 1, as 0.1; 1 itself would leave "
            "nothing to train on"
        )


def with_validation(videos: Sequence[RawVideo], share: float) -> list[RawVideo]:
    """Puts the share of each class (`label`) whose ids have the smallest hash into the split
    validation, the rest into train.
    """
    by_class = defaultdict(list)
    for video in videos:
        by_class[video.labels["label"]].append(video)
    validation = set()
    for members in by_class.values():
        count = min(max(1, round(share * len(members))), len(members) - 1) if share else 0
        validation.update(
            sorted((id_hash(video.video_id, "split"), video.video_id) for video in members)[:count]
        )
    chosen = {video_id for _, video_id in validation}
    return [
        replace(video, split="validation" if video.video_id in chosen else "train")
        for video in videos
    ]
