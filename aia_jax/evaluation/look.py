"""Draws what networks look at in videos: Grad-CAM of several models, and the gates of one."""

import difflib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.compile_cache import compiler_options
from aia_jax.data.views import ONE_VIEW
from aia_jax.errors import UserError
from aia_jax.evaluation.film_strip import (
    Row,
    draw_film_strip,
    middle_frames,
    paint,
    spread_maps,
)
from aia_jax.evaluation.gates import gate_maps
from aia_jax.evaluation.gradcam import grad_cam
from aia_jax.models.preprocess import preprocessing
from aia_jax.prediction.frame_format import find_frame_format
from aia_jax.prediction.predict import read_views
from aia_jax.shapes import Array, PyTree
from aia_jax.video.faults import UnreadableVideo

_MAX_NAMES = 20  # of classes, in an error message


class Strip(NamedTuple):
    """What became of a video.

    Attributes:
        source: the video.
        path: of its PNG; None if the video could not be read.
        reason: why not.
        missing: letters in the strip that no font of this machine has.
    """

    source: Path
    path: Path | None
    reason: str = ""
    missing: str = ""


def draw_gradcam(
    runs: Sequence[TrainedRun],
    sources: Sequence[Path],
    out: Path,
    *,
    class_name: str = "",
    layer: str = "",
) -> Iterator[Strip]:
    """Draws a film strip of each video, with a row of maps for each model (paper, Fig. 6).

    A row's colours go from 0 to its largest value.

    Args:
        runs: the models.
        sources: video files and folders of frames.
        out: folder for the PNGs, which are named after the videos, layer and class.
        class_name: whose evidence is sought; "" for the class that each model answers.
        layer: of every model; "" for the last one of each.

    Yields:
        What became of each video, in their order.

    Raises:
        UserError: a model has no such class or layer; says which there are.
    """
    looks = [_GradcamOf(run, class_name, layer) for run in runs]

    def rows(source: Path) -> list[Row]:
        strips = [look(source) for look in looks]
        return [Row("frames", strips[0][0]), *(row for _, row in strips)]

    return _draw_all(sources, out, "_".join(filter(None, ("gradcam", layer, class_name))), rows)


def draw_gates(
    run: TrainedRun, sources: Sequence[Path], out: Path, *, module: str = ""
) -> Iterator[Strip]:
    """Draws a film strip of each video, with a row for each gate of the chosen modules.

    A row's colours span its own values, which stand in its label.

    Args:
        run: a model whose modules have gates.
        sources: video files and folders of frames.
        out: folder for the PNGs, which are named after the videos and modules.
        module: the start of the modules' paths; "" for those of the last block that has any.

    Yields:
        What became of each video, in their order.

    Raises:
        UserError: the model has no gates, or no such module.
    """
    preprocess, segment_frames = preprocessing(run.model), run.model.segment_frames
    if not module:
        clips = jax.ShapeDtypeStruct((1, *run.clip_shape), np.float32)
        every = jax.eval_shape(functools.partial(gate_maps, run.model), run.variables, clips)
        module = every[-1].module.split("/")[0]
    compute = jax.jit(
        lambda variables, clips: gate_maps(run.model, variables, preprocess(clips), module),
        compiler_options=compiler_options(),
    )

    def rows(source: Path) -> list[Row]:
        clip = _read_clip(source, run)
        shown = middle_frames(clip, segment_frames)
        strip = [Row("frames", list(shown))]
        for gate in compute(run.variables, clip[None]):
            values = spread_maps(np.asarray(gate.values[0]), len(clip))
            values = middle_frames(values, segment_frames)
            low, high = float(values.min()), float(values.max())
            role = "guide" if gate.guides else "host"
            place = gate.module.replace("/attention/", " ")
            label = f"y_{gate.name}, {role}: {low:.2f} to {high:.2f} {place}"
            strip.append(Row(label, _paint_all(shown, (values - low) / max(high - low, 1e-12))))
        return strip

    return _draw_all(sources, out, f"gates_{module}", rows)


class _GradcamOf:
    """Grad-CAM of one model, compiled once."""

    def __init__(self, run: TrainedRun, class_name: str, layer: str):
        if class_name and class_name not in run.class_names:
            raise UserError(
                f"--class {class_name}: {run.workdir} has no such class; "
                f"{_some_names(class_name, run.class_names)}"
            )
        self._run, self._class = run, class_name
        preprocess = preprocessing(run.model)

        def classify(variables: PyTree, clips: Array) -> Array:
            return run.model.apply(variables, preprocess(clips), train=False)

        def maps(variables: PyTree, clips: Array, classes: Array) -> Array:
            return grad_cam(run.model, variables, preprocess(clips), classes, layer)

        self._classify = jax.jit(classify, compiler_options=compiler_options())
        self._maps = jax.jit(maps, compiler_options=compiler_options())

    def __call__(self, source: Path) -> tuple[list[np.ndarray], Row]:
        """The clip's frames, one of each segment, and the model's row."""
        run = self._run
        clip = _read_clip(source, run)
        shares = jax.nn.sigmoid if run.multilabel else jax.nn.softmax
        probabilities = shares(self._classify(run.variables, clip[None])[0])
        label = int(probabilities.argmax())
        if self._class:
            label = run.class_names.index(self._class)
        classes = np.array([label], np.int32)
        heat = spread_maps(np.asarray(self._maps(run.variables, clip[None], classes)[0]), len(clip))
        clip, heat = (middle_frames(frames, run.model.segment_frames) for frames in (clip, heat))
        name, share = run.class_names[label], float(probabilities[label])
        text = f"{run.workdir.name}: {name} {share:.0%}"
        return list(clip), Row(text, _paint_all(clip, heat / max(float(heat.max()), 1e-12)))


def _read_clip(source: Path, run: TrainedRun) -> np.ndarray:
    """The centre crop of the clip in the video's middle: uint8 [T·S, H, W, 3].

    Raises:
        UnreadableVideo: the source cannot be read to its end.
    """
    return read_views(source, run, ONE_VIEW, find_frame_format(run)).views[0]


def _some_names(wanted: str, names: Sequence[str]) -> str:
    """The classes, those nearest to `wanted` of many."""
    if len(names) <= _MAX_NAMES:
        return f"it has {', '.join(names)}"
    near = difflib.get_close_matches(wanted, names, 5, 0.0)
    return f"of its {len(names)} classes the nearest are {', '.join(near)}"


def _paint_all(clip: np.ndarray, heat: np.ndarray) -> list[np.ndarray]:
    return [paint(picture, plane) for picture, plane in zip(clip, heat, strict=True)]


def _draw_all(
    sources: Sequence[Path], out: Path, ending: str, rows: Callable[[Path], list[Row]]
) -> Iterator[Strip]:
    """Draws the strip of each source; `ending` of the names says what is in the strips."""
    ending = re.sub(r"[^\w.+-]", "-", ending)
    names = [source.stem or "video" for source in sources]
    for number, (source, name) in enumerate(zip(sources, names, strict=True)):
        # Videos of one name lie in different folders.
        suffix = f"_{number + 1}" if names.count(name) > 1 else ""
        path = out / f"{name}{suffix}_{ending}.png"
        try:
            missing = draw_film_strip(path, source.name, rows(source))
        except UnreadableVideo as error:
            yield Strip(source, None, str(error))
            continue
        yield Strip(source, path, missing=missing)
