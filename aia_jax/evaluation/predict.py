"""From video files to class probabilities: frames as prepare_data.py would store them, views as
eval.py would cut them.
"""

import glob
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import simplejpeg

from aia_jax.checkpoints.trained_run import TrainedRun, read_manifest
from aia_jax.compile_cache import compiler_options
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.prepare.write import Storage
from aia_jax.training.step import normalize
from aia_jax.video.decode import UnreadableVideo, cores, decode, estimated_count
from aia_jax.video.frame_size import FrameSize

_QUALITY = 90  # what prepare_data.py takes if nothing is said
_MOST_CLIPS = 16  # of one call of the network
_MOST_READERS = 8  # videos that are decoded beside one another


@dataclass(frozen=True)
class Prediction:
    """What a network says of a video.

    Attributes:
        source: the file or folder.
        probabilities: float32 [K], by label.
        count: frames of the video.
        seen: numbers of the frames that the network saw, ascending, from 0.
        fps: frames a second; 0 where not known.
        seconds: that reading took: decoding, and cutting the views.
    """

    source: Path
    probabilities: np.ndarray
    count: int
    seen: tuple[int, ...]
    fps: float
    seconds: float

    def top(self, most: int) -> list[tuple[int, float]]:
        """The most likely labels with their probabilities, the likeliest first; all of them if
        there are fewer.
        """
        order = np.argsort(-self.probabilities, kind="stable")[:most]
        return [(int(label), float(self.probabilities[label])) for label in order]


@dataclass(frozen=True)
class Unreadable:
    """A source that gave no prediction, and why."""

    source: Path
    reason: str


@dataclass(frozen=True)
class _Read:
    """A video's views, uint8 [V, T, H, W, 3], and what is known of it."""

    source: Path
    views: np.ndarray
    count: int
    seen: tuple[int, ...]
    fps: float
    seconds: float


def find_sources(names: Iterable[str]) -> list[Path]:
    """The videos that a command line names: each file or folder of frames as it is, a pattern such
    as "clips/**/*.mp4" by what matches.

    Raises:
        UserError: a pattern matches nothing.
    """
    sources = []
    for name in names:
        if os.path.lexists(name) or not glob.has_magic(name):
            sources.append(Path(name))
        elif found := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 (Path.glob takes no absolute patterns)
            sources.extend(map(Path, found))
        else:
            raise UserError(f"no file or folder matches {name}")
    return list(dict.fromkeys(sources))


def storage_of(run: TrainedRun, size: str | None = None) -> Storage:
    """How the run's training data were stored: by their manifest where it can be found, else by the
    recipe's `data.resize`.

    Args:
        run: the trained run.
        size: the user's word on the frames' size, as prepare_data.py takes it; None if there is
            none.

    Raises:
        UserError: nothing says at which size frames are stored, or `size` is none.
    """
    found = read_manifest(run)
    options = found[0].get("options", {}) if found else {}
    quality = int(options.get("--quality", _QUALITY))
    if size is not None:
        return Storage(FrameSize.parse(size), quality)
    if "--size" in options:
        return Storage(FrameSize.parse(options["--size"]), quality)
    if run.config.data.resize:
        height, width = run.config.data.resize
        return Storage(FrameSize(height=height, width=width), quality)
    raise UserError(
        f"the recipe of {run.workdir} has no data.resize and its data folder {run.config.data.dir} "
        "has no manifest of this data set: "
        "say with --size at which size the frames were stored, as 240x320 or short256"
    )


def read_views(
    source: Path, run: TrainedRun, views: Views, storage: Storage, threads: int = 1
) -> _Read:
    """Reads a video and cuts its views. Only frames that a view shows are kept, so a long video
    takes no more memory than a short one.

    Args:
        source: a video file, or a folder of frames.
        run: says how many frames a clip has, and their size.
        views: to cut.
        storage: of the frames.
        threads: that decode.

    Raises:
        UnreadableVideo: the source cannot be read to its end.
    """
    started = time.perf_counter()
    data = run.config.data
    count, video = estimated_count(source), None
    while (
        video is None or video.count != count
    ):  # packets that hold no frame, or several, show only when all are decoded
        count = video.count if video else count
        seen, places = np.unique(views.frames(count, data.num_frames), return_inverse=True)
        video = decode(source, storage.size, storage.quality, set(seen.tolist()), threads)
    pictures = [
        simplejpeg.decode_jpeg(jpeg) for jpeg in video.frames
    ]  # through JPEG: these are the pixels that training has seen
    clips = views.cut(
        pictures, places.reshape(views.clips, data.num_frames), data.crop, data.resize
    )
    return _Read(
        source, clips, count, tuple(seen.tolist()), video.fps, time.perf_counter() - started
    )


class Classifier:
    """A run's network as one compiled function of a fixed number of clips.

    Attributes:
        batch: clips of one call.
        seconds: of each call so far; the first compiles.
    """

    def __init__(self, run: TrainedRun, batch: int):
        self.batch = batch
        self.seconds: list[float] = []
        self._shape = (batch, *run.clip_shape)
        self._variables = jax.device_put(run.variables)
        self._apply = jax.jit(
            lambda variables, clips: run.model.apply(variables, normalize(clips), train=False),
            compiler_options=compiler_options(),
        )

    def __call__(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Logits float32 [len(clips), K] of at most `batch` clips uint8 [T, H, W, 3]."""
        filled = np.zeros(self._shape, np.uint8)
        filled[: len(clips)] = clips
        started = time.perf_counter()
        logits = np.asarray(self._apply(self._variables, filled))
        self.seconds.append(time.perf_counter() - started)
        return logits[: len(clips)]

    def time_again(self) -> float:
        """Seconds of one more call, which does not compile if there was one before."""
        self([np.zeros(self._shape[1:], np.uint8)])
        return self.seconds[-1]


def batch_for(clips: int) -> int:
    """Clips of one call when there are `clips` in all: as few calls as memory allows, equally full."""
    return -(-clips // -(-clips // _MOST_CLIPS))


def predict(
    run: TrainedRun, sources: Sequence[Path], views: Views, storage: Storage, classifier: Classifier
) -> Iterator[Prediction | Unreadable]:
    """Classifies videos, in their order; a video that cannot be read is answered by the reason.

    Args:
        run: the trained run.
        sources: video files and folders of frames.
        views: of each video.
        storage: of frames.
        classifier: of the run.
    """
    waiting, clips, logits = deque(), [], deque()
    for read in _read_ahead(run, sources, views, storage):
        waiting.append(read)
        if isinstance(read, _Read):
            clips.extend(read.views)
        while len(clips) >= classifier.batch:
            logits.extend(classifier(clips[: classifier.batch]))
            del clips[: classifier.batch]
        yield from _finished(waiting, logits, len(views))
    if clips:
        logits.extend(classifier(clips))
    yield from _finished(waiting, logits, len(views))


def _finished(waiting: deque, logits: deque, views: int) -> Iterator[Prediction | Unreadable]:
    """Takes the videos off `waiting` whose logits are all there."""
    while waiting and (isinstance(waiting[0], Unreadable) or len(logits) >= views):
        read = waiting.popleft()
        if isinstance(read, Unreadable):
            yield read
            continue
        mean = np.mean([logits.popleft() for _ in range(views)], axis=0, dtype=np.float64)  # [K]
        exponents = np.exp(mean - mean.max())
        probabilities = (exponents / exponents.sum()).astype(np.float32)
        yield Prediction(read.source, probabilities, read.count, read.seen, read.fps, read.seconds)


def _read_ahead(
    run: TrainedRun, sources: Sequence[Path], views: Views, storage: Storage
) -> Iterator[_Read | Unreadable]:
    """Reads videos beside one another, in their order; at most one waits for each reader."""
    readers = min(len(sources), cores(), _MOST_READERS)
    threads = 1 if len(sources) > 1 else 0  # a single video has all cores to itself

    def read(source: Path) -> _Read | Unreadable:
        try:
            return read_views(source, run, views, storage, threads)
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
