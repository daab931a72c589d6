"""From video files to class probabilities.

Frames are stored in memory as prepare_data.py stores them, and views are cropped as eval.py does.
"""

import glob
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import simplejpeg
from scipy.special import expit

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.compile_cache import compiler_options
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.file_tree import expand_pattern
from aia_jax.memory import memory_advice, prediction_advice
from aia_jax.prediction.functions import clip_logits
from aia_jax.shapes import Array, PyTree
from aia_jax.video.decode import Source, cores, decode, estimated_count
from aia_jax.video.faults import UnreadableVideo, named_faults
from aia_jax.video.frame_size import FrameFormat

_MAX_BATCH = 16  # clips of one call of the network
_MAX_READERS = 8  # videos that are decoded at the same time


@dataclass(frozen=True)
class Prediction:
    """The class probabilities of a video: they sum to 1, or are each class's own (sigmoid).

    Attributes:
        source: the file or folder, or frames in memory.
        probabilities: float32 [K], by label.
        count: frames of the video.
        seen: numbers of the frames that the network saw, ascending, from 0.
        fps: frames a second; 0 where not known.
        seconds: how long decoding and cropping took.
        logits: float32 [K], the mean of the views'.
    """

    source: Source
    probabilities: np.ndarray
    count: int
    seen: tuple[int, ...]
    fps: float
    seconds: float
    logits: np.ndarray

    def top(self, k: int) -> list[tuple[int, float]]:
        """The k most likely labels with their probabilities, the most likely first.

        They are all labels if there are fewer than k.
        """
        return top_classes(self.probabilities, k)


@dataclass(frozen=True)
class Unreadable:
    """A source that gave no prediction, and the reason."""

    source: Source
    reason: str


@dataclass(frozen=True)
class VideoViews:
    """A video that has been read; attributes as in `Prediction`.

    Attributes:
        views: uint8 [V, T, H, W, 3].
    """

    source: Source
    views: np.ndarray
    count: int
    seen: tuple[int, ...]
    fps: float
    seconds: float


def find_sources(names: Iterable[str]) -> list[Path]:
    """The videos that a command line names, each once.

    Args:
        names: files and folders of frames, and patterns such as "clips/**/*.mp4", which stand for
            all that they match.

    Raises:
        UserError: a pattern matches nothing.
    """
    sources = []
    for name in names:
        if os.path.lexists(name) or not glob.has_magic(name):
            sources.append(Path(name))
        elif matches := expand_pattern(name):
            sources.extend(map(Path, matches))
        else:
            raise UserError(f"no file or folder matches {name}")
    return list(dict.fromkeys(sources))


def read_views(
    source: Source, run: TrainedRun, views: Views, frame_format: FrameFormat, threads: int = 1
) -> VideoViews:
    """Reads a video and crops its views.

    Only the frames of the views stay in memory, so a long video needs no more than a short one.

    Args:
        source: a video file, a folder of frames, or frames in memory.
        run: says how many frames a clip has, and their size.
        views: the clips and crops to make.
        frame_format: in which training frames were stored.
        threads: how many threads decode a file; 0: one a core.

    Raises:
        UnreadableVideo: the source cannot be read to its end.
    """
    started = time.perf_counter()
    data, segment_frames = run.config.data, run.model.segment_frames
    stored = frame_format.size, frame_format.quality
    count, video = estimated_count(source, frame_format.frame_names), None
    # The estimate counts packets. Some hold no frame or several, which only decoding shows. The
    # views then take other frames, so the video is read again.
    while video is None or video.count != count:
        count = video.count if video else count
        indices = views.frames(count, data.num_frames, data.sampling, segment_frames)
        seen, inverse = np.unique(indices, return_inverse=True)
        video = decode(
            source,
            *stored,
            set(seen.tolist()),
            threads,
            frame_names=frame_format.frame_names,
        )
    # Frames go through JPEG, as the network has seen such pixels in training.
    pictures = [simplejpeg.decode_jpeg(jpeg) for jpeg in video.frames]
    clips = views.crop_frames(
        pictures,
        inverse.reshape(indices.shape),
        data.crop,
        data.resize,
        data.sampling,
    )
    seconds = time.perf_counter() - started
    return VideoViews(source, clips, count, tuple(seen.tolist()), video.fps, seconds)


class Classifier:
    """A run's network as one compiled function of a fixed number of clips.

    Attributes:
        batch: clips of one call.
        seconds: of each call so far; the first one compiles.
    """

    def __init__(
        self,
        run: TrainedRun,
        batch: int,
        function: Callable[[PyTree, Array], Array] | None = None,
    ):
        """Compiles nothing yet.

        Args:
            run: the trained run.
            batch: clips of one call.
            function: of variables and clips uint8 [batch, T, H, W, 3] to float32 [batch, …], as
                in `functions.py`; None gives the logits.
        """
        self.batch = batch
        self.seconds: list[float] = []
        self._shape = (batch, *run.clip_shape)
        self._variables = jax.device_put(run.variables)
        self._apply = jax.jit(
            function or clip_logits(run.model), compiler_options=compiler_options()
        )

    def __call__(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """The function's result of at most `batch` clips uint8 [T, H, W, 3].

        It is float32, one row a clip: logits [len(clips), K] where no other function was given.
        """
        padded = np.zeros(self._shape, np.uint8)
        padded[: len(clips)] = clips
        started = time.perf_counter()
        with memory_advice(lambda: prediction_advice(self._shape)):
            result = np.asarray(self._apply(self._variables, padded))
        self.seconds.append(time.perf_counter() - started)
        return result[: len(clips)]

    def time_call(self) -> float:
        """Seconds of one more call, which does not compile if there was one before."""
        self([np.zeros(self._shape[1:], np.uint8)])
        return self.seconds[-1]


def choose_batch_size(clips: int) -> int:
    """Clips of one call when there are `clips` in all: few calls, of about equal numbers."""
    calls = -(-clips // _MAX_BATCH)
    return -(-clips // calls)


def predict(
    run: TrainedRun,
    sources: Sequence[Source],
    views: Views,
    frame_format: FrameFormat,
    classifier: Classifier,
) -> Iterator[Prediction | Unreadable]:
    """Classifies videos.

    Args:
        run: the trained run.
        sources: video files and folders of frames.
        views: of each video.
        frame_format: in which training frames were stored.
        classifier: of the run.

    Yields:
        The result of each source, in their order; `Unreadable` for one that cannot be read.
    """
    for found in compute_views(run, sources, views, frame_format, classifier):
        if isinstance(found, Unreadable):
            yield found
            continue
        video, logits = found
        yield Prediction(
            video.source,
            probabilities_of_views(logits, run.multilabel),
            video.count,
            video.seen,
            video.fps,
            video.seconds,
            np.mean(logits, axis=0, dtype=np.float64).astype(np.float32),
        )


def compute_views(
    run: TrainedRun,
    sources: Sequence[Source],
    views: Views,
    frame_format: FrameFormat,
    network: Classifier,
) -> Iterator[tuple[VideoViews, list[np.ndarray]] | Unreadable]:
    """Computes a network's output for every view of each source, with full batches.

    Args:
        run, sources, views, frame_format: as in `predict`.
        network: of the run.

    Yields:
        Of each source, in their order, the video and the output for each of its views;
        `Unreadable` for one that cannot be read.
    """
    waiting, clips, outputs = deque(), [], deque()  # outputs for the clips of the waiting videos
    for video in read_ahead(run, sources, views, frame_format):
        waiting.append(video)
        if isinstance(video, VideoViews):
            clips.extend(video.views)
        while len(clips) >= network.batch:
            outputs.extend(network(clips[: network.batch]))
            del clips[: network.batch]
        yield from _pop_results(waiting, outputs, len(views))
    if clips:
        outputs.extend(network(clips))
    yield from _pop_results(waiting, outputs, len(views))


def _pop_results(
    waiting: deque, outputs: deque, views: int
) -> Iterator[tuple[VideoViews, list[np.ndarray]] | Unreadable]:
    """Removes the videos from `waiting` whose outputs are all there, and yields both."""
    while waiting and (isinstance(waiting[0], Unreadable) or len(outputs) >= views):
        video = waiting.popleft()
        if isinstance(video, Unreadable):
            yield video
        else:
            yield video, [outputs.popleft() for _ in range(views)]


def probabilities_of_views(logits: Sequence[np.ndarray], multilabel: bool = False) -> np.ndarray:
    """The class probabilities float32 [K] of a video, from the logits [K] of each of its views.

    Args:
        logits: of the views; their mean counts.
        multilabel: whether a video may have several classes: each has a probability of its own, the
            sigmoid. Else they are the softmax.
    """
    mean = np.mean(logits, axis=0, dtype=np.float64)
    if multilabel:
        return expit(mean).astype(np.float32)
    exponents = np.exp(mean - mean.max())
    return (exponents / exponents.sum()).astype(np.float32)


def top_classes(probabilities: np.ndarray, k: int) -> list[tuple[int, float]]:
    """The k labels of the largest probabilities [K], with them; all if there are fewer than k."""
    order = np.argsort(-probabilities, kind="stable")[:k]
    return [(int(label), float(probabilities[label])) for label in order]


def above(classes: Sequence[tuple[int, float]], threshold: float | None) -> list[tuple[int, float]]:
    """Those of (label, probability) pairs whose probability is at least `threshold`; None: all."""
    return [pair for pair in classes if threshold is None or pair[1] >= threshold]


def read_ahead(
    run: TrainedRun, sources: Sequence[Source], views: Views, frame_format: FrameFormat
) -> Iterator[VideoViews | Unreadable]:
    """Reads several videos at a time; yields them in their order."""
    readers = min(len(sources), cores(), _MAX_READERS)
    threads = 1 if len(sources) > 1 else 0  # 0: a single video is decoded on all cores

    def read(source: Source) -> VideoViews | Unreadable:
        try:
            with named_faults():
                return read_views(source, run, views, frame_format, threads)
        except UnreadableVideo as error:
            return Unreadable(source, str(error))

    with ThreadPoolExecutor(readers) as pool:
        ahead: deque[Future] = deque()
        for source in sources:
            ahead.append(pool.submit(read, source))
            if len(ahead) > readers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
