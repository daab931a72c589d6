"""Classifies the windows that slide over a long video: what is seen when."""

import dataclasses
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.data.views import Views
from aia_jax.prediction.predict import Classifier, probabilities_of_views, top_classes
from aia_jax.prediction.sliding import Sliding
from aia_jax.prediction.window_reader import WindowViews, read_windows
from aia_jax.video.faults import UnreadableVideo
from aia_jax.video.frame_size import FrameFormat
from aia_jax.video.timed_frames import Clock


@dataclasses.dataclass(frozen=True)
class WindowPrediction:
    """What a window shows.

    Attributes:
        start: seconds since the video's first frame.
        end: seconds since the video's first frame.
        classes: (label, probability) of the most likely classes, the most likely first.
        seen: numbers of the frames that the network saw, ascending, from 0.
    """

    start: float
    end: float
    classes: tuple[tuple[int, float], ...]
    seen: tuple[int, ...]


def predict_windows(
    run: TrainedRun,
    source: Path,
    sliding: Sliding,
    views: Views,
    frame_format: FrameFormat,
    clock: Clock,
    classifier: Classifier,
    top: int,
) -> Iterator[WindowPrediction]:
    """Classifies every window of a video.

    The network works on a batch of windows while the next ones are read.

    Args:
        run: the trained run.
        source: a video file, or a folder of frames.
        sliding: the windows.
        views: of each window.
        frame_format: in which training frames were stored.
        clock: of the source.
        classifier: of the run.
        top: how many classes to keep.

    Yields:
        The windows in the order of their starts.

    Raises:
        UnreadableVideo: the source cannot be read to its end. The windows before the damage have
            been yielded.
    """
    waiting: deque[WindowViews] = deque()
    clips: list[np.ndarray] = []
    logits: deque[np.ndarray] = deque()  # of the views of the waiting windows
    at_work: Future | None = None
    fault = None
    reader = read_windows(source, run, views, sliding, frame_format, clock)
    with ThreadPoolExecutor(1) as pool:
        while True:
            try:
                window = next(reader, None)
            except UnreadableVideo as error:
                window, fault = None, error
            if window is not None:
                waiting.append(window)
                clips.extend(window.views)
            while len(clips) >= classifier.batch or (clips and window is None):
                if at_work is not None:
                    logits.extend(at_work.result())
                at_work = pool.submit(classifier, clips[: classifier.batch])
                del clips[: classifier.batch]
            if window is None and at_work is not None:
                logits.extend(at_work.result())
            while len(logits) >= len(views):
                done = waiting.popleft()
                of_views = [logits.popleft() for _ in range(len(views))]
                found = probabilities_of_views(of_views, run.multilabel)
                classes = tuple(top_classes(found, top))
                yield WindowPrediction(done.start, done.end, classes, done.seen)
            if window is None:
                break
    if fault is not None:
        raise fault
