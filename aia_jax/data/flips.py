"""Flips: which label a mirrored video has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# "left" or "right" as a word. Between letters it is part of another word, as in "upright".
_SIDE = re.compile(r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class FlipRule:
    """The label that a video has after it is mirrored.

    Attributes:
        partner: int64 [classes], the label after a flip, by label. It is the class itself if the
            class's name has no side, and -1 if the name has a side but no other class has the
            opposite one: videos of such a class are never flipped.
    """

    partner: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The labels that a flip swaps, each pair once, the smaller label first."""
        return [(k, int(other)) for k, other in enumerate(self.partner) if other > k]


def flip_pairs(class_names: Sequence[str]) -> FlipRule:
    """Derives from the class names which labels a horizontal flip swaps.

    "… from left to right" and "… from right to left" are such a pair. Only whole words count, in
    upper or lower case: "upright" names no side, "move_left" does.
    """
    labels_by_name: dict[str, list[int]] = {}
    for label, name in enumerate(class_names):
        labels_by_name.setdefault(_normalize_name(name), []).append(label)
    partner = np.arange(len(class_names))
    for label, name in enumerate(class_names):
        if _SIDE.search(name):
            mirrored = labels_by_name.get(_normalize_name(_SIDE.sub(_opposite_side, name)), [])
            unique = len(mirrored) == 1 and len(labels_by_name[_normalize_name(name)]) == 1
            partner[label] = mirrored[0] if unique else -1
    return FlipRule(partner)


def mirror_label(label: int | np.ndarray, partner: np.ndarray) -> int | np.ndarray | None:
    """The label of a mirrored video; None if the video must not be mirrored.

    Args:
        label: of the video, or its labels multi-hot, uint8 [classes].
        partner: int [classes], as `FlipRule.partner`.
    """
    if not isinstance(label, np.ndarray):
        return int(partner[label]) if partner[label] >= 0 else None
    flipped = partner[np.flatnonzero(label)]
    if (flipped < 0).any():
        return None
    mirrored = np.zeros_like(label)
    mirrored[flipped] = 1
    return mirrored


def _opposite_side(word: re.Match) -> str:
    return "left" if word[0].lower() == "right" else "right"


def _normalize_name(name: str) -> str:
    return " ".join(name.casefold().split())
