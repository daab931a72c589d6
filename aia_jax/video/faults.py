"""What makes a video or a picture unreadable, and the limits beyond which none is tried."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

# A picture of a few bytes can claim any size, and decoding it fills the memory. A frame of 8K video
# has 33 million pixels, a frame of this size takes about 1 GB while it is resized.
MAX_PIXELS = 1 << 26
_MAX_JPEG_SIDE = 65_500  # pixels; libjpeg's limit


class UnreadableVideo(Exception):
    """A source is damaged, empty or not a video; the text is the reason, in one line."""


@contextmanager
def named_faults() -> Iterator[None]:
    """Turns whatever goes wrong because of a source into `UnreadableVideo`.

    One source must not end the work on all others, whatever it holds. Only errors of the program's
    own files (`OutputError`) go on.
    """
    try:
        yield
    except (UnreadableVideo, OutputError):
        raise
    except MemoryError as error:
        raise UnreadableVideo("reading it takes more memory than there is") from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(error.strerror or str(error)) from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UnreadableVideo(f"cannot be read ({type(error).__name__}: {reason})") from error


class OutputError(Exception):
    """A file of the program itself cannot be written; `__cause__` is the `OSError`."""


def check_regular(path: Path) -> None:
    """Refuses what is no file: opening a pipe or a device can wait for ever.

    Raises:
        UnreadableVideo: if `path` is a folder, a pipe, a socket or a device, or an empty file.
        OSError: if there is nothing at `path`, or it cannot be followed.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise UnreadableVideo(f"{kind}, where a file is expected")
    if not status.st_size:
        raise UnreadableVideo("the file is empty")


def check_pixels(height: int, width: int, owner: str) -> None:
    """Refuses a size that no video has, before memory for its pixels is taken.

    Args:
        height: in pixels, as the file claims it.
        width: in pixels.
        owner: of the size, for the error.

    Raises:
        UnreadableVideo: if the pixels are more than `MAX_PIXELS`.
    """
    if height * width > MAX_PIXELS:
        raise UnreadableVideo(
            f"{owner} claims {width} × {height} pixels; at most {MAX_PIXELS:,} in all are read: "
            "shrink it first, or it is damaged"
        )


def check_stored_shape(shape: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Refuses a stored frame that a JPEG cannot hold: a very long one with a short side given.

    Args:
        shape: (height, width) of the stored frame.
        height: of the source, in pixels.
        width: of the source, in pixels.

    Returns:
        `shape`.

    Raises:
        UnreadableVideo: if a side or the number of pixels is too large.
    """
    if max(shape) > _MAX_JPEG_SIDE or shape[0] * shape[1] > MAX_PIXELS:
        raise UnreadableVideo(
            f"its {width} × {height} pixels would be stored as {shape[1]} × {shape[0]}, which is "
            "too large: crop it, or give --size as HEIGHTxWIDTH"
        )
    return shape
