"""Reads the clips of windows that slide over a long video.

Each frame is decoded once, and no more frames are in memory than the open windows show.
"""

import dataclasses
import heapq
import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from ml_collections import ConfigDict

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.data.views import Views
from aia_jax.prediction.sliding import Sliding
from aia_jax.video.faults import UnreadableVideo, named_faults
from aia_jax.video.frame_size import FrameFormat
from aia_jax.video.timed_frames import Clock, TimedFrame, timed_frames

_MOST_READINGS = 4  # of a file whose packets do not show how long it is


@dataclasses.dataclass(frozen=True)
class WindowViews:
    """A window that has been read.

    Attributes:
        start: seconds since the video's first frame.
        end: seconds since the video's first frame.
        views: uint8 [V, T, H, W, 3].
        seen: numbers of the frames that the views show, ascending, from 0.
    """

    start: float
    end: float
    views: np.ndarray
    seen: tuple[int, ...]


def read_windows(
    source: Path,
    run: TrainedRun,
    views: Views,
    sliding: Sliding,
    frame_format: FrameFormat,
    clock: Clock,
    threads: int = 0,
) -> Iterator[WindowViews]:
    """Reads a video's windows and crops their views.

    A file is read again where its packets do not show how long it is, or where one thread alone
    tells whether damage matters; windows that have been yielded stay as they are.

    Args:
        source: a video file, or a folder of frames.
        run: says how many frames a clip has, and their size.
        views: of each window.
        sliding: the windows.
        frame_format: in which training frames were stored.
        clock: of the source.
        threads: that decode a file; 0: one a core.

    Raises:
        UnreadableVideo: the source cannot be read to its end.
        UserError: see `Sliding.place`.
    """
    done = 0
    for _ in range(_MOST_READINGS):
        reading = _Reading(source, run, views, sliding, frame_format, clock, threads)
        try:
            with named_faults():
                for window in reading.windows(done):
                    done += 1
                    yield window
        except UnreadableVideo:
            if threads == 1 or source.is_dir():
                raise
            threads = 1
            continue
        if reading.is_as_long_as_planned:
            return
        clock = dataclasses.replace(clock, end=reading.end)
    raise UnreadableVideo("its frames have other times whenever it is read")


class _Window:
    """A window while its frames come.

    Attributes:
        start: of the window.
        end: of the window.
        next_time: at which a frame is wanted; infinity if all are there.
    """

    def __init__(self, start: float, end: float, indices: np.ndarray, fps: float):
        """Opens a window.

        Args:
            start: of the window, in seconds.
            end: of the window, in seconds.
            indices: int [clips, T], frames that the views take, counted from the window's start at
                an even rate.
            fps: that rate.
        """
        self.start, self.end = start, end
        wanted, inverse = np.unique(indices, return_inverse=True)
        self._slots = inverse.reshape(indices.shape)
        # The middles of frames, so that rounding never chooses the frame before.
        self._times = (start + (wanted + 0.5) / fps).tolist()
        self._numbers: list[int] = []
        self._jpegs: dict[int, bytes] = {}

    @property
    def next_time(self) -> float:
        missing = self._times[len(self._numbers) :]
        return missing[0] if missing else math.inf

    def add(self, number: int, jpeg: bytes, until: float) -> None:
        """Takes the frame that is shown until then wherever one is wanted before."""
        self._jpegs[number] = jpeg
        while self.next_time < until:
            self._numbers.append(number)

    def crop(self, views: Views, data: ConfigDict) -> WindowViews:
        distinct, inverse = np.unique(self._numbers, return_inverse=True)
        seen = tuple(distinct.tolist())
        # Frames go through JPEG, as the network has seen such pixels in training.
        pictures = [simplejpeg.decode_jpeg(self._jpegs[number]) for number in seen]
        clips = views.crop_frames(
            pictures, inverse[self._slots], data.crop, data.resize, data.sampling
        )
        return WindowViews(self.start, self.end, clips, seen)


class _Reading:
    """One reading of a video.

    Attributes:
        end: seconds from the first frame to the end of the last one; 0 before they are read.
    """

    def __init__(
        self,
        source: Path,
        run: TrainedRun,
        views: Views,
        sliding: Sliding,
        frame_format: FrameFormat,
        clock: Clock,
        threads: int,
    ):
        self._source, self._run, self._views = source, run, views
        self._frame_format, self._clock, self._threads = frame_format, clock, threads
        self._places = sliding.place(source, clock, run.model.segment_frames)
        self.end = 0.0

    @property
    def is_as_long_as_planned(self) -> bool:
        return abs(self.end - self._clock.end) <= 0.5 / self._clock.fps

    def windows(self, skip: int) -> Iterator[WindowViews]:
        """Yields the windows from number `skip` on.

        One that ends with the video is not yielded unless the video is as long as planned.
        """
        data, fps = self._run.config.data, self._clock.fps
        segment_frames = self._run.model.segment_frames
        places = deque(self._places[skip:])
        opened: deque[_Window] = deque()
        wanted: list[tuple[float, int]] = []  # a heap: the next time of an open window, its number
        first = 0  # number of the window that opened first
        for number, (held, until) in enumerate(self._with_next_time()):
            while places and places[0][0] < until:
                start, end = places.popleft()
                count = max(1, round((end - start) * fps))
                indices = self._views.frames(count, data.num_frames, data.sampling, segment_frames)
                opened.append(_Window(start, end, indices, fps))
                heapq.heappush(wanted, (opened[-1].next_time, first + len(opened) - 1))
            jpeg = None
            while wanted and wanted[0][0] < until:
                _, index = heapq.heappop(wanted)
                window = opened[index - first]
                jpeg = jpeg or held.store()
                window.add(number, jpeg, until)
                if window.next_time < math.inf:
                    heapq.heappush(wanted, (window.next_time, index))
            if until == math.inf and not self.is_as_long_as_planned:
                return
            # The last one may have to move when the end of the video is known.
            is_over = until == math.inf
            while opened and (is_over or (opened[0].end <= until and (len(opened) > 1 or places))):
                yield opened.popleft().crop(self._views, data)
                first += 1

    def _with_next_time(self) -> Iterator[tuple[TimedFrame, float]]:
        """Yields each frame with the time until which it is shown; infinity for the last one."""
        held = None
        for frame in timed_frames(self._source, self._frame_format, self._clock, self._threads):
            if held is not None:
                yield held, frame.time
            held = frame
        self.end = held.time + 1 / self._clock.fps
        yield held, math.inf
