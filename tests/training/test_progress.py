"""The line that says how a run is doing."""

import io

import pytest
from rich.console import Console

from aia_jax.training.progress import ProgressLine


@pytest.mark.parametrize("width", [60, 200])
def test_the_line_in_a_terminal(width):
    screen = io.StringIO()
    line = ProgressLine(
        1000, 100, 0, Console(file=screen, force_terminal=True, width=width, highlight=False)
    )
    line.step(7)
    line.row(
        {
            "split": "train",
            "step": 6,
            "epoch": 1,
            "loss": 1.5,
            "lr": 0.01,
            "top1": None,
            "clips_per_s": 812.3,
            "data_wait": 0.031,
        }
    )
    line.step(8)
    line.message("kept")
    line.close()
    text = screen.getvalue()
    # One line is redrawn.
    assert "kept\n" in text and "epoch 1/10  step 8/1,000  ETA 0:" in text and text.count("\n") == 2
    if width == 200:
        assert "loss 1.5  LR 0.01  812.3 clips/s  data wait 3%" in text
