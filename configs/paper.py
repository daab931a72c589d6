"""What the paper prints for a recipe: its accuracy, with the table and the setting it stands in.

The paper is Hao et al. 2022 (https://arxiv.org/abs/2204.09303). These are the paper's numbers, not
measurements of this code. Every data set's file has them as `PAPER`, from the argument that names
network and options ("aia_tsm", "tsm,split=2") to what the paper reports.
"""

from collections.abc import Mapping
from typing import NamedTuple

NO_NUMBER = "none on this data set"


class Reported(NamedTuple):
    """One result of the paper."""

    top1: float  # percent
    top5: float | None  # percent; None: the paper does not print it
    table: str  # number of the paper's table: "II", or "I and II"
    frames: int = 8  # of a clip
    crops: int | None = None  # of a clip; None: the table has only the number of frames
    clips: int | None = None  # of a video; None: as for crops
    split: str = ""  # the split in the paper's words, where its table names one

    def __str__(self) -> str:
        """A text such as "61.7% top-1, 87.2% top-5 (Table II; 8 frames × 1 crop × 1 clip)"."""
        accuracy = f"{self.top1:.1f}% top-1"
        if self.top5 is not None:
            accuracy += f", {self.top5:.1f}% top-5"
        counts = {"frame": self.frames, "crop": self.crops, "clip": self.clips}
        setting = " × ".join(
            f"{count} {noun}{'s' if count > 1 else ''}"
            for noun, count in counts.items()
            if count is not None
        )
        table = f"Table{'s' if ' and ' in self.table else ''} {self.table}"
        return f"{accuracy} ({'; '.join(filter(None, (table, self.split, setting)))})"


def paper_text(paper: Mapping[str, Reported], argument: str, network: str) -> str:
    """The text for `config.paper`: the paper's number for this argument, or that it has none.

    It names the network, because `--config.model.…` can change the one that is trained.

    Args:
        paper: the data set's table.
        argument: its key.
        network: the network in words.
    """
    if argument in paper:
        return f"{paper[argument]} for {network}"
    return f"none for {network}" if paper else NO_NUMBER
