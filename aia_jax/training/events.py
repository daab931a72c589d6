"""TensorBoard's event files, written in the calling thread."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aia_jax.files import naming


class EventFile:
    """Writes scalars for TensorBoard, and hides those of older files beyond the restored step.

    tensorboardX's `SummaryWriter` hands events to a thread. When that thread fails, as on a full
    disk, its queue fills and the training loop waits for ever. The parts of tensorboardX used here
    raise the `OSError` where it happens.
    """

    def __init__(self, folder: Path, start_step: int):
        """Starts a new file in `folder` that goes on after `start_step`."""
        # Imported here, because tensorboardX imports torch if it is installed, which takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # The writer's own file name counts whole seconds: two starts within one would share a file.
        self._writer = EventsWriter(str(folder / "events"), f".{start_step}.{os.getpid()}")
        if start_step:
            with naming(folder):
                self._writer.write_event(
                    Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START))
                )

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of a metrics row as "<split>/<name>" at the row's step."""
        with naming(self._folder):
            for name, value in row.items():
                if name not in ("step", "split") and value is not None:
                    summary = self._scalar(f"{row['split']}/{name}", value)
                    self._writer.write_event(
                        self._event(step=row["step"], summary=summary, wall_time=time.time())
                    )
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with naming(self._folder):
            self._writer.close()
