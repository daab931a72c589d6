"""A trained network as one object: predictions and features of videos, for notebooks."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.prediction.frame_format import find_frame_format
from aia_jax.prediction.functions import clip_logits, frame_features, mean_features
from aia_jax.prediction.predict import (
    Classifier,
    Unreadable,
    choose_batch_size,
    compute_views,
    find_sources,
    probabilities_of_views,
)
from aia_jax.prediction.predictions import Predictions
from aia_jax.shapes import Array, PyTree
from aia_jax.video.decode import Source
from aia_jax.video.frame_array import FrameArray

Videos = Any  # a path or pattern, uint8 [F, H, W, 3] or [N, F, H, W, 3], or a list of such


class LoadedNetwork:
    """A trained network with its variables, its classes, and the way in which clips are made.

    Attributes:
        model: the Flax module: `model.apply(variables, clips)` gives logits, for clips float
            [B, T, H, W, 3] that are normalised by `model.mean` and `model.std`.
        variables: {"params", "batch_stats"}, on JAX's default device.
        class_names: by label; "class 0" and so on where nobody has named them.
        views: clips and crops of a video, where a call says nothing else.
        notes: what a user should know of how it was opened.
        run: what was opened; `run.config` has every field.
    """

    def __init__(self, run: TrainedRun, views: Views, notes: Sequence[str] = ()):
        """Puts the variables on the device; compiles nothing."""
        self.run = dataclasses.replace(run, variables=jax.device_put(dict(run.variables)))
        self.views, self.notes = views, tuple(notes)
        self._frame_format = find_frame_format(run)
        self._networks: dict[tuple[Callable, int], Classifier] = {}

    @property
    def model(self) -> nn.Module:
        return self.run.model

    @property
    def variables(self) -> Mapping[str, Any]:
        return self.run.variables

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.run.class_names

    def predict(
        self, videos: Videos, views: str | Views | None = None, *, batch_size: int | None = None
    ) -> Predictions:
        """Classifies videos, as predict.py does with the same views: the same numbers.

        A program is compiled for each number of clips in a call of the network, and stays: the
        second call with as many videos compiles nothing.

        Args:
            videos: a path, or a list of paths: files, folders of frames, patterns such as
                "clips/*.mp4". Or frames, uint8 [F, H, W, 3] in RGB and upright, which are resized
                and stored as those of a folder; or a list of such, or [N, F, H, W, 3].
            views: clips × crops whose logits are averaged, as "2x3"; None: `self.views`.
            batch_size: clips in a call of the network; None: as predict.py chooses it, at most 16.

        Raises:
            UserError: no video could be read, or one is neither path nor frames. Where some could
                be read, a warning names the others.
        """
        views = self._parse(views)
        sources = _find_sources(videos)
        shape = len(sources), len(self.class_names)
        logits, probabilities = np.full((2, *shape), np.nan, np.float32)
        unreadable = []
        for row, found in enumerate(self._compute(clip_logits, sources, views, batch_size)):
            if isinstance(found, Unreadable):
                unreadable.append((str(found.source), found.reason))
                continue
            logits[row] = np.mean(found, axis=0, dtype=np.float64)
            probabilities[row] = probabilities_of_views(found, self.run.multilabel)
        _warn(unreadable, len(sources))
        return Predictions(
            tuple(map(str, sources)),
            probabilities,
            logits,
            self.class_names,
            str(views),
            tuple(unreadable),
        )

    def features(
        self,
        videos: Videos,
        views: str | Views | None = None,
        *,
        per_frame: bool = False,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Computes what the network's head sees of videos.

        Args:
            videos, views, batch_size: as in `predict`.
            per_frame: whether to keep frames and views apart.

        Returns:
            float32 [N, C]: the mean over frames and views, as `python -m aia_jax.evaluation
            features` writes it. With `per_frame` [N, V, T, C]: of each view its T frames, or
            segments of a network that takes such. NaN for a video that could not be read.

        Raises:
            UserError: as `predict`.
        """
        views = self._parse(views)
        sources = _find_sources(videos)
        function = frame_features if per_frame else mean_features
        rows: list[np.ndarray | None] = []
        unreadable = []
        for found in self._compute(function, sources, views, batch_size):
            if isinstance(found, Unreadable):
                unreadable.append((str(found.source), found.reason))
                rows.append(None)
            else:
                rows.append(np.stack(found) if per_frame else np.mean(found, axis=0))
        _warn(unreadable, len(sources))
        if not rows:
            return np.zeros((0,) * (4 if per_frame else 2), np.float32)
        shape = next(row.shape for row in rows if row is not None)
        missing = np.full(shape, np.nan, np.float32)
        return np.stack([missing if row is None else row for row in rows]).astype(np.float32)

    def __repr__(self) -> str:
        data = self.run.config.data
        known = "" if self.run.names_known else ", which nobody has named"
        known += ", several a video" if self.run.multilabel else ""
        frames, height, width, _ = self.run.clip_shape
        lines = [
            f"{self.model.describe()}, {len(self.class_names)} classes{known}",
            f"from {self.run.workdir}"
            + ("" if self.run.step is None else f", step {self.run.step}"),
            f"clips: {frames} frames of {height}x{width} pixels, sampling {data.sampling}, from "
            f"frames of {self._frame_format.size}; views {self.views}",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def _parse(self, views: str | Views | None) -> Views:
        return Views.parse(views) if isinstance(views, str) else views or self.views

    def _compute(
        self,
        function: Callable[[nn.Module], Callable[[PyTree, Array], Array]],
        sources: Sequence[Source],
        views: Views,
        batch_size: int | None,
    ) -> Iterator[list[np.ndarray] | Unreadable]:
        """The network's output for the views of each source, or why it has none."""
        if not sources:
            return
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1 clip in a call")
        batch = batch_size or choose_batch_size(len(sources) * len(views))
        network = self._networks.get((function, batch))
        if network is None:
            network = Classifier(self.run, batch, function(self.model))
            self._networks[function, batch] = network
        for found in compute_views(self.run, sources, views, self._frame_format, network):
            yield found if isinstance(found, Unreadable) else found[1]


def _find_sources(videos: Videos) -> list[Source]:
    """The videos that a call names, in their order.

    Raises:
        UserError: one of them is neither path nor frames, or a pattern matches nothing.
    """
    if isinstance(videos, (str, os.PathLike)) or getattr(videos, "ndim", 0) == 4:
        videos = [videos]
    sources: list[Source] = []
    for number, video in enumerate(videos):
        if isinstance(video, (str, os.PathLike)):
            sources += find_sources([os.fspath(video)])
        else:
            sources.append(FrameArray.check(f"video {number}", video))
    return sources


def _warn(unreadable: Sequence[tuple[str, str]], count: int) -> None:
    """Warns of videos that could not be read.

    Raises:
        UserError: none could be.
    """
    reasons = "; ".join(f"{name}: {reason}" for name, reason in unreadable)
    if unreadable and len(unreadable) == count:
        raise UserError(f"no video could be read: {reasons}")
    if unreadable:
        warnings.warn(f"{len(unreadable)} of {count} videos not read: {reasons}", stacklevel=3)
