"""Names of splits, and a validation split for data sets that come without one."""

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from aia_jax.errors import UserError
from aia_jax.prepare.raw_dataset import RawVideo, id_hash
from aia_jax.prepare.raw_folder import abbreviate
from aia_jax.shards.example import label_list

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
    """Adds `--val-share` and `--group`; `condition` says when they have an effect."""
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help=f"{condition}: the share of each class that becomes the split validation, chosen by a "
        "hash of the video ids, so every run chooses the same; at least one video of a class that "
        "has two; 0: none (default: %(default)s)",
    )
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help=f"{condition}: keeps videos together, as those of one person or one film, so that "
        "validation has none that training knows: a group is what this regular expression finds in "
        "the videos' ids (their paths), as 'person\\d+'; its brackets, where it has some",
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


def split_off_validation(
    videos: Sequence[RawVideo], share: float, groups: Mapping[str, str] | None = None
) -> list[RawVideo]:
    """Moves a share of each class to the split validation and all other videos to train.

    The videos whose ids have the smallest hashes move. The class is that of the feature "label".
    Where videos have several labels the shares are roughly `share`, as those of groups.

    Args:
        videos: of all classes.
        share: of each class, 0 ≤ share < 1.
        groups: the group of each video, by id; a group moves as a whole, so the shares are then
            roughly `share`. None: each video for itself.

    Raises:
        UserError: if the groups leave nothing to validate on.
    """
    by_class = defaultdict(list)
    for video in videos:
        for label in label_list(video.labels["label"]):
            by_class[label].append(video.video_id)
    wanted = {
        label: min(max(1, round(share * len(ids))), len(ids) - 1) if share else 0
        for label, ids in by_class.items()
    }
    validation = set()
    several = any(isinstance(video.labels["label"], tuple) for video in videos)
    if groups is None and not several:
        for label, ids in by_class.items():
            ordered = sorted(ids, key=lambda one: (id_hash(one, "split"), one))
            validation.update(ordered[: wanted[label]])
    else:
        alone = {video.video_id: video.video_id for video in videos}
        group_of = alone if groups is None else groups
        chosen = _choose_groups(videos, group_of, wanted)
        validation = {video.video_id for video in videos if group_of[video.video_id] in chosen}
        if share and groups and not validation:
            raise UserError(
                f"no group of {len(set(groups.values()))} can become the split validation, since "
                "each has all videos of a class; give smaller groups, or --val-share 0"
            )
    return [
        replace(video, split="validation" if video.video_id in validation else "train")
        for video in videos
    ]


def _choose_groups(
    videos: Sequence[RawVideo], groups: Mapping[str, str], wanted: Mapping[int, int]
) -> set[str]:
    """The groups that become the split validation.

    In the order of their hashes, those are taken that leave each of their classes something to
    train on, and of which validation still wants half of the videos or more. Then those are taken
    that have a class of which validation has no video yet.
    """
    counts: dict[str, Counter] = defaultdict(Counter)
    for video in videos:
        counts[groups[video.video_id]].update(label_list(video.labels["label"]))
    total = sum(counts.values(), Counter())
    moved: Counter = Counter()
    chosen: set[str] = set()
    ordered = sorted(counts, key=lambda group: (id_hash(group, "split"), group))
    for missing_only in (False, True):
        for group in ordered:
            here = counts[group]
            if group in chosen or any(moved[k] + here[k] >= total[k] for k in here):
                continue
            if missing_only:
                useful = any(wanted[k] and not moved[k] for k in here)
            else:
                needed = sum(min(here[k], max(0, wanted[k] - moved[k])) for k in here)
                useful = 2 * needed >= here.total()
            if useful:
                chosen.add(group)
                moved.update(here)
    return chosen


def group_by_pattern(videos: Sequence[RawVideo], pattern: str) -> dict[str, str]:
    """The group of each video, by id: what `--group` finds in the id.

    Raises:
        UserError: if `pattern` is no regular expression, or finds nothing in an id.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group {pattern!r} is no regular expression ({error})") from error
    groups = {}
    for video in videos:
        match = regex.search(video.video_id)
        found = match and (" ".join(filter(None, match.groups())) or match[0])
        if not found:
            raise UserError(
                f"--group {pattern!r} finds nothing in {video.video_id!r}; each video needs a group"
            )
        groups[video.video_id] = found
    return groups


def remarks_on_groups(videos: Sequence[RawVideo], groups: Mapping[str, str]) -> Iterator[str]:
    """Lines that say which groups the splits have, and which groups several splits share."""
    by_group = defaultdict(set)
    for video in videos:
        by_group[groups[video.video_id]].add(video.split)
    shared = sorted(group for group, splits in by_group.items() if len(splits) > 1)
    if shared:
        yield f"groups with videos in several splits: {len(shared)} ({abbreviate(shared)})"
    counts = Counter(video.split for video in videos)
    for split in sorted(counts):
        have = sum(split in splits for splits in by_group.values())
        yield (
            f"{split}: {have:,} of {len(by_group):,} groups, {counts[split]:,} of "
            f"{len(videos):,} videos"
        )
