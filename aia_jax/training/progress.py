"""The line that says how a run is doing: live in a terminal, elsewhere one at each log interval."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_WIDE = 130  # columns from which the bar has room beside the text
_START = "starting: the first step compiles the network"


class ProgressLine:
    """Shows epoch, step, ETA, loss, LR, top-1, clips/s and data wait.

    Text printed while the line is live scrolls by above it.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        start_step: int,
        console: Console | None = None,
    ):
        """Shows the line. `start_step` is the last finished step."""
        self._total, self._per_epoch, self._step = total_steps, steps_per_epoch, start_step
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._first: tuple[int, float] | None = None  # step and time from which the ETA counts
        self._facts = ""
        self._live: Progress | None = None
        if self._console.is_terminal:
            bar = [BarColumn(bar_width=20)] if self._console.width >= _WIDE else []
            # One line; what does not fit is cut at the right.
            text = TextColumn("{task.description}", markup=False)
            self._live = Progress(*bar, text, console=self._console, refresh_per_second=4)
            self._task = self._live.add_task(
                self._line(_START), total=total_steps, completed=start_step
            )
            self._live.start()
        else:
            self.message(self._line(_START))

    def step(self, step: int) -> None:
        """Moves the line to a step that was handed to the devices."""
        self._step = step
        if self._first is None:
            self._first = (step, time.monotonic())
        self._show(self._line(self._facts or "waiting for the first results"))

    def row(self, row: Mapping[str, Any]) -> None:
        """Shows a row of metrics.jsonl."""
        if row["split"] != "train":
            self.message(f"epoch {row['epoch']}  {row['split']}  {_describe(row)}")
            return
        self._facts = _describe(row)
        if self._live is not None:
            self._show(self._line(self._facts))
        else:
            self.message(self._line(self._facts, row["step"]))

    def status(self, text: str) -> None:
        """Shows what goes on between steps ("validating 12/40"); in a terminal only."""
        self._show(self._line(text))

    def message(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text, markup=False)
        self._console.file.flush()

    def close(self) -> None:
        """Leaves the line as it is and gives the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, text: str) -> None:
        if self._live is not None:
            self._live.update(self._task, description=text, completed=self._step)

    def _line(self, facts: str, step: int | None = None) -> str:
        step = self._step if step is None else step
        epochs = -(-self._total // self._per_epoch)
        epoch = max(1, -(-step // self._per_epoch))
        return f"epoch {epoch}/{epochs}  step {step:,}/{self._total:,}  {self._eta()}{facts}"

    def _eta(self) -> str:
        """Time to the end at the pace of this process so far, validation and saving included."""
        if self._first is None or self._step <= self._first[0] or self._step >= self._total:
            return ""
        pace = (time.monotonic() - self._first[1]) / (self._step - self._first[0])
        return f"ETA {_duration(pace * (self._total - self._step))}  "


def _describe(row: Mapping[str, Any]) -> str:
    formats = {
        "loss": "loss {:.4g}",
        "lr": "LR {:.3g}",
        "top1": "top-1 {:.1%}",
        "top5": "top-5 {:.1%}",
        "mean_class_accuracy": "mean-class {:.1%}",
        "map": "mAP {:.1%}",
        "clips_per_s": "{:,.1f} clips/s",
        "data_wait": "data wait {:.0%}",
    }
    return "  ".join(
        text.format(row[key]) for key, text in formats.items() if row.get(key) is not None
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if days or hours else f"{minutes}:{seconds:02}"
    return f"{days} d {clock}" if days else clock
