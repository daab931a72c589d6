"""TensorBoard's event files, written in the calling thread."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFile:
    """Scalars for TensorBoard; it hides what older files of the folder hold past the restored step.

    tensorboardX's `SummaryWriter` hands events to a thread. When that thread fails, as on a full
    disk, its queue fills and the training loop waits for ever; its pieces used here raise the
    `OSError` where it happens.
    """

    def __init__(self, folder: Path, start_step: int):
        """Starts a new file in `folder` that goes on after `start_step`."""
        # Here, because tensorboardX imports torch where there is one, and that takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(parents=True, exist_ok=True)
        # The writer's own name has seconds only: two starts within one would share a file.
        self._writer = EventsWriter(str(folder / "events"), f".{start_step}.{os.getpid()}")
        if start_step:
            self._writer.write_event(
                Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))
            )

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of a metrics row as "<split>/<name>" at the row's step."""
        for name, value in row.items():
            if name not in ("step", "split") and value is not None:
                summary = self._scalar(f"{row['split']}/{name}", value)
                self._writer.write_event(
                    self._event(step=row["step"], summary=summary, wall_time=time.time())
                )
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
