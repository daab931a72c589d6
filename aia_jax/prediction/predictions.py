"""What a network says of several videos, as arrays and as a table to read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from aia_jax.prediction.predict import top_classes

_SHOWN_VIDEOS, _SHOWN_CLASSES = 20, 3  # of the table that stands for the whole
_LONGEST = 40  # characters of a video's name in it
_NAME = "text-align: left; vertical-align: top; white-space: nowrap"
_NUMBERS = "text-align: right; font-variant-numeric: tabular-nums"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The classes of N videos. `len`, iteration and `[i]` give the videos one by one.

    Rows of a video that could not be read hold NaN.

    Attributes:
        ids: names of the videos: paths as texts, "video 0" and so on for frames in memory.
        probabilities: float32 [N, K]: they sum to 1; of a network for several classes a video each
            class has its own.
        logits: float32 [N, K], the mean over views.
        class_names: by label.
        views: clips × crops of each video, as "2x3".
        unreadable: (id, reason) of each video that could not be read.
    """

    ids: tuple[str, ...]
    probabilities: np.ndarray
    logits: np.ndarray
    class_names: tuple[str, ...]
    views: str
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> np.ndarray:
        """The most likely label of each video, int64 [N]; -1 for one that could not be read."""
        is_read = ~np.isnan(self.probabilities).any(1)
        best = np.where(np.isnan(self.probabilities), -1, self.probabilities).argmax(1)
        return np.where(is_read, best, -1)

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most likely classes of each video as (name, probability), the most likely first.

        The list of a video that could not be read is empty.
        """
        return [
            [(self.class_names[label], probability) for label, probability in top_classes(row, k)]
            if label >= 0
            else []
            for label, row in zip(self.labels, self.probabilities, strict=True)
        ]

    def above(self, threshold: float = 0.5) -> list[list[tuple[str, float]]]:
        """The classes of each video whose probability is at least `threshold`, in `top`'s form."""
        return [
            [pair for pair in classes if pair[1] >= threshold]
            for classes in self.top(len(self.class_names))
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: int | slice | Sequence[int]) -> "Predictions":
        """Those of some of the videos, chosen as rows of an array are; of one for a number."""
        rows = np.atleast_1d(np.arange(len(self))[key])
        ids = tuple(self.ids[row] for row in rows)
        unreadable = tuple(pair for pair in self.unreadable if pair[0] in ids)
        return Predictions(
            ids,
            self.probabilities[rows],
            self.logits[rows],
            self.class_names,
            self.views,
            unreadable,
        )

    def __iter__(self) -> Iterator["Predictions"]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        names = [_shorten(name) for name in self.ids[:_SHOWN_VIDEOS]]
        width = max(map(len, names), default=0)
        lines = [
            f"{name:<{width}}  "
            + ("; ".join(f"{p:.1%} {label}" for label, p in classes) or self._reason(video))
            for name, video, classes in zip(names, self.ids, self._shown(), strict=False)
        ]
        return "\n".join([*lines, *self._more()]) or "no videos"

    def _repr_html_(self) -> str:
        """The table that notebooks show: a bar for each of the most likely classes."""
        rows = [
            f'<tr><td style="{_NAME}">{escape(_shorten(video))}</td><td style="text-align: left">'
            + ("".join(_bar(*one) for one in classes) or escape(self._reason(video)))
            + "</td></tr>"
            for video, classes in zip(self.ids, self._shown(), strict=False)
        ]
        more = "".join(f"<p>{escape(line)}</p>" for line in self._more()) or ""
        return f"<table>{''.join(rows)}</table>{more}" if rows else "<p>no videos</p>"

    def _shown(self) -> list[list[tuple[str, float]]]:
        return self[:_SHOWN_VIDEOS].top(_SHOWN_CLASSES)

    def _more(self) -> list[str]:
        count = len(self) - _SHOWN_VIDEOS
        return [f"… and {count} more"] if count > 0 else []

    def _reason(self, video: str) -> str:
        return f"not read: {dict(self.unreadable).get(video, '')}"


def _shorten(name: str) -> str:
    """The end of a long name, in characters that every output can show."""
    name = name.encode(errors="backslashreplace").decode()
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _bar(name: str, probability: float) -> str:
    percent = f"{probability:.1%}"
    return (
        f'<div style="display: flex; gap: 8px; align-items: center">'
        f'<span style="flex: none; width: 4em; {_NUMBERS}">{percent}</span>'
        f'<span style="flex: none; width: 120px"><span style="display: block; height: 9px; '
        f'border-radius: 2px; background: #2a68ae; width: {percent}"></span></span>'
        f"<span>{escape(name)}</span></div>"
    )
