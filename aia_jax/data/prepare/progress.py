"""How far the preparation is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY = 10.0  # seconds, where there is no terminal


class ProgressReport:
    """Shows videos done, rate, megabytes and the time that is left. A context manager; writes to stderr."""

    def __init__(self, total: int, doing: str = "preparing"):
        self._total, self._start, self._next_line = total, time.monotonic(), time.monotonic() + _LINE_EVERY
        self._bar = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("videos  {task.fields[rate]:.1f}/s  {task.fields[megabytes]:,.0f} MB  ETA"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(doing, total=total, rate=0.0, megabytes=0.0)

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self._bar.stop()

    def update(self, videos: int, num_bytes: int) -> None:
        """Shows the state: videos done and bytes written so far."""
        now = time.monotonic()
        rate = videos / max(now - self._start, 1e-3)
        self._bar.update(self._task, completed=videos, rate=rate, megabytes=num_bytes / 1e6)
        if self._bar.disable and now >= self._next_line:
            self._next_line = now + _LINE_EVERY
            left = f"{(self._total - videos) / rate:,.0f} s left" if videos else "starting"
            print(f"{videos:,}/{self._total:,} videos, {rate:.1f}/s, {num_bytes / 1e6:,.0f} MB, {left}", file=sys.stderr, flush=True)
