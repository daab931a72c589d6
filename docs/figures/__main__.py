"""Draws the figures of docs/models.md beside this file.

    python -m docs.figures

The grids of the shifts are drawn from what the shifts of `aia_jax.ops` do to frame numbers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from aia_jax.ops import shift_heads, temporal_shift
from docs.figures.blocks import BLOCKS
from docs.figures.diagram import grid

FOLDER = Path(__file__).parent
_FRAMES = 6
_COLUMNS = [f"t={number}" for number in range(1, _FRAMES + 1)]
_NOTE = "A number is the frame that a cell's content comes from, 0 stands for zeros."


def _frame_numbers(*rest: int) -> np.ndarray:
    """A clip [1, T, 1, 1, …] whose values are the numbers of its frames, from 1."""
    numbers = np.arange(1, _FRAMES + 1, dtype=np.float32).reshape(1, -1, *[1] * len(rest))
    return np.broadcast_to(numbers, (1, _FRAMES, *rest))


def _rows(shifted: np.ndarray) -> list[list[int]]:
    """[T, rows] → the numbers of each row."""
    return np.asarray(shifted).astype(int).T.tolist()


def shifts() -> str:
    """TSM's shift of channels, TokShift's of the class token, MSCA's of heads."""
    tsm = temporal_shift(_frame_numbers(1, 1, 8), 8)[0, :, 0, 0]
    token = temporal_shift(_frame_numbers(1, 1, 4), 4)[0, :, 0, 0]
    patch = _frame_numbers(1)[0]
    heads = shift_heads(_frame_numbers(1, 6, 1), 1)[0, :, 0, :, 0]
    eighths = [f"C·{number}/8" for number in range(1, 9)]
    quarters = [f"class C·{number}/4" for number in range(1, 5)]
    return grid(
        "Which frame the temporal shifts of TSM, TokShift and MSCA take each part from",
        [
            ("TSM: channels", eighths, _rows(tsm)),
            ("TokShift: tokens", [*quarters, "patches"], _rows(np.concatenate([token, patch], 1))),
            ("MSCA: heads of k, v", [f"head {number}" for number in range(1, 7)], _rows(heads)),
        ],
        _COLUMNS,
        [_NOTE],
    )


FIGURES: Mapping[str, Callable[[], str]] = {**BLOCKS, "shifts": shifts}


def main() -> None:
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw())


if __name__ == "__main__":
    main()
