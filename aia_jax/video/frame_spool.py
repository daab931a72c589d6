"""Holds the JPEG frames of one video until its record is written: in memory, or in a file."""

import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from aia_jax.video.faults import OutputError

_IN_MEMORY = 1 << 26  # bytes; about 1,800 frames of 240×320 at quality 90


class FrameSpool:
    """JPEG frames in their order; a long video's go to a file without a name.

    Use it in a `with` block.

    Attributes:
        lengths: the bytes of each frame.
    """

    def __init__(self, folder: Path):
        """Makes an empty one; `folder` is where the file goes, if there is need of one."""
        self.lengths = array("q")
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # noqa: SIM115 (closed by `__exit__`)

    def __enter__(self) -> "FrameSpool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.lengths)

    def append(self, jpeg: bytes) -> None:
        """Adds a frame.

        Raises:
            OutputError: if the file cannot be written.
        """
        try:
            self._file.write(jpeg)
        except OSError as error:
            raise OutputError(str(error)) from error
        self.lengths.append(len(jpeg))

    def __iter__(self) -> Iterator[bytes]:
        """Yields the frames that have been added; none may be added meanwhile."""
        self._file.seek(0)
        for length in self.lengths:
            yield self._file.read(length)
