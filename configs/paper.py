"""What is reported for a recipe: an accuracy, with whose it is and the setting it stands in.

Most numbers are those of the paper (Hao et al. 2022, https://arxiv.org/abs/2204.09303); others name
their source. None is a measurement of this code. Every data set's file has them as `PAPER`, from
the argument that names network, method and options ("aia_tsm", "tsm,svmix,split=2") to what is
reported.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

NO_NUMBER = "none on this data set"


class Reported(NamedTuple):
    """One reported result."""

    top1: float  # percent
    top5: float | None  # percent; None: the source does not print it
    table: str = ""  # number of the paper's table: "II", or "I and II"
    frames: int = 8  # of a clip; H2CN: segments
    crops: int | None = None  # of a clip; None: the source has only the number of frames
    clips: int | None = None  # of a video; None: as for crops
    split: str = ""  # the split in the paper's words, where its table names one
    source: str = ""  # who reports it, "H2CN's README"; "" is the paper
    others: "tuple[Reported, ...]" = ()  # see `beside`

    def beside(self, *others: "Reported") -> "Reported":
        """This number, with those of the same network in other settings."""
        return self._replace(others=others)

    def __str__(self) -> str:
        """A text such as "61.7% top-1, 87.2% top-5 (Table II; 8 frames × 1 crop × 1 clip)"."""
        accuracy = f"{self.top1:.2f}".removesuffix("0") + "% top-1"
        if self.top5 is not None:
            accuracy += f", {self.top5:.1f}% top-5"
        counts = {"frame": self.frames, "crop": self.crops, "clip": self.clips}
        setting = " × ".join(
            f"{count} {noun}{'s' if count > 1 else ''}"
            for noun, count in counts.items()
            if count is not None
        )
        table = f"Table{'s' if ' and ' in self.table else ''} {self.table}" if self.table else ""
        return f"{accuracy} ({'; '.join(filter(None, (self.source, table, self.split, setting)))})"


def paper_text(paper: Mapping[str, Reported], argument: str, network: str, method: str = "") -> str:
    """The text for `config.paper`: what is reported for this argument, or that nothing is.

    It names the network, because `--config.model.…` can change the one that is trained.

    Args:
        paper: the data set's table.
        argument: its key.
        network: the network in words.
        method: the method that the argument names; "" for none.
    """
    if argument in paper:
        return f"{paper[argument]} for {network}"
    trained = f"{network} with {method}" if method else network
    return f"none for {trained}" if paper else NO_NUMBER


def reported_texts(numbers: Sequence[tuple[Reported, Sequence[str]]]) -> list[str]:
    """Short texts for `--help`, one a source: "the paper's 61.6% (split=1), 58.5% (split=2) top-1".

    Args:
        numbers: each with notes on its options, such as "split=2".
    """
    by_source: dict[str, list[str]] = {}
    for number, notes in numbers:
        notes = list(notes)
        if number.frames != 8:
            notes.append(f"{number.frames} frames")
        views = (number.clips or 1) * (number.crops or 1)
        if views > 1:
            notes.append(f"{number.clips} clips" if views == number.clips else f"{views} views")
        percent = f"{number.top1:.2f}".removesuffix("0") + "%"
        note = f" ({', '.join(notes)})" if notes else ""
        by_source.setdefault(number.source or "the paper's", []).append(percent + note)
    return [f"{source} {', '.join(texts)} top-1" for source, texts in by_source.items()]
