"""The frames of videos that a report shows, and where each model looked in them (Grad-CAM).

Score files hold no pictures. They come from the prepared data of a run, or of a folder that the
user names, if they are the data that were tested, by fingerprint.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from aia_jax.checkpoints.last_result import SCORES
from aia_jax.checkpoints.trained_run import TrainedRun, open_run
from aia_jax.compile_cache import compiler_options, use_compile_cache
from aia_jax.data.views import ONE_VIEW
from aia_jax.errors import UserError
from aia_jax.evaluation.film_strip import middle_frames, paint, spread_maps
from aia_jax.evaluation.gradcam import grad_cam
from aia_jax.evaluation.report.models import Model
from aia_jax.evaluation.scores import Evaluation, tests
from aia_jax.models.preprocess import preprocessing
from aia_jax.shards.fingerprint import fingerprint, short_text
from aia_jax.shards.frames import read_pictures
from aia_jax.shards.reader import DamagedRecord, ShardReader, open_split

_SHOWN = 8  # frames of a strip
_DATA_DIR = "data.dir="  # begins an override


@dataclasses.dataclass(frozen=True)
class Strip:
    """The frames of a video, and a row of maps for each model that could be looked into.

    Attributes:
        pictures: uint8 [H, W, 3] each.
        maps: by model number, the same frames with the model's map laid over them.
    """

    pictures: list[np.ndarray]
    maps: dict[int, list[np.ndarray]]


def make_strips(
    models: Sequence[Model], rows: Sequence[int], mapped: Sequence[int], data: Path | None
) -> tuple[dict[int, Strip], list[str]]:
    """Reads the frames of some videos and computes the maps of a few of them.

    Args:
        models: of the report.
        rows: the videos, by their rows in the models' scores.
        mapped: those of `rows` that get maps.
        data: a prepared data set; None: that of the models' runs.

    Returns:
        A strip for each row whose frames could be read; and notes on what is not shown and why.
    """
    notes: list[str] = []
    runs = _open_runs(models, notes)
    reader = _find_frames(models, runs, data, notes)
    if reader is None:
        return {}, notes
    shown = short_text(fingerprint(reader.index, models[0].about.label))
    looked = {
        number: run
        for number, run in runs.items()
        if mapped and _may_look(models[number], run, shown, notes)
    }
    # All models of a report are drawn on the pixels that the first of them saw.
    pixels = next(iter((looked or runs).values()), None)
    record_of = {reader.index.video_id(record): record for record in range(len(reader))}
    strips: dict[int, Strip] = {}
    for row in rows:
        video = str(models[0].scores.ids[row])
        if video not in record_of:
            notes.append(f"{video}: its frames are not in the data")
            continue
        try:
            clip = _read_clip(reader, record_of[video], pixels)
            shown = middle_frames(clip, pixels.model.segment_frames if pixels else 1)
            strips[row] = Strip(_thin_out(shown), {})
        except DamagedRecord as damage:
            notes.append(str(damage))
    there = [row for row in mapped if row in strips]
    for number, run in looked.items():
        use_compile_cache(run.config.compile_cache)
        model = models[number]
        try:
            clips = [
                _read_clip(reader, record_of[str(model.scores.ids[row])], run) for row in there
            ]
            maps = _compute_maps(run, np.array(clips), model.predicted[there])
        except (UserError, DamagedRecord) as error:
            notes.append(f"no Grad-CAM of {model.letter}: {error}")
            continue
        for row, clip, heat in zip(there, clips, maps, strict=True):
            heat = spread_maps(heat, len(clip))
            shown = (middle_frames(frames, run.model.segment_frames) for frames in (clip, heat))
            painted = [paint(*pair) for pair in zip(*shown, strict=True)]
            strips[row].maps[number] = _thin_out(painted)
    return strips, notes


def _open_runs(models: Sequence[Model], notes: list[str]) -> dict[int, TrainedRun]:
    """The runs whose `scores` folders the score files lie in, at the step that was tested."""
    runs = {}
    for model in models:
        test, folder = model.about, Path(model.file).absolute().parent
        if not isinstance(test, Evaluation) or test.step is None:
            notes.append(f"{model.letter}: its weights are no run's")
            continue
        if folder.name != SCORES:
            notes.append(f"{model.letter}: its score file does not lie in the folder of its run")
            continue
        overrides = [
            text
            for text in test.overrides
            if text.startswith("data.") and not text.startswith(_DATA_DIR)
        ]
        overrides += [f"data.num_frames={test.frames}", f"data.crop={test.crop_size}"]
        try:
            runs[model.number] = open_run(folder.parent, str(test.step), overrides=overrides)
        except UserError as error:
            notes.append(f"{model.letter}: its run cannot be opened: {error}")
    return runs


def _find_frames(
    models: Sequence[Model],
    runs: Mapping[int, TrainedRun],
    data: Path | None,
    notes: list[str],
) -> ShardReader | None:
    """Opens the split that was tested; None where it is not at hand, or holds other data."""
    tested = {test.data for model in models for test in tests(model.about)}
    about = models[0].about
    problems = []
    for folder in [data] if data else _data_folders(models, runs):
        try:
            reader = open_split(folder, about.split)
        except UserError as error:
            problems.append(str(error))
            continue
        found = short_text(fingerprint(reader.index, about.label))
        if found in tested:
            return reader
        problems.append(
            f"{folder} holds other data (fingerprint {found}) than were tested "
            f"({', '.join(sorted(tested))})"
        )
    reasons = problems or ["--data names the prepared data that were tested"]
    notes += [f"the frames are not shown: {reason}" for reason in reasons]
    return None


def _data_folders(models: Sequence[Model], runs: Mapping[int, TrainedRun]) -> list[Path]:
    """Where the tested data may be: the runs' data, and those that a test took instead."""
    folders = [run.data_dir for run in runs.values()]
    folders += [
        Path(text.removeprefix(_DATA_DIR))
        for number in runs
        for text in models[number].about.overrides
        if text.startswith(_DATA_DIR)
    ]
    return list(dict.fromkeys(folder.resolve() for folder in folders))


def _may_look(model: Model, run: TrainedRun, shown: str, notes: list[str]) -> bool:
    """Whether the run's checkpoint is what was tested, on the data that are shown."""
    problem = ""
    if model.about.data != shown:
        problem = "it was tested on data that were prepared in another way"
    elif (found := run.weights_fingerprint()) != model.about.weights:
        problem = (
            f"the run's checkpoint has other weights ({found}) than were tested "
            f"({model.about.weights})"
        )
    if problem:
        notes.append(f"no Grad-CAM of {model.letter}: {problem}")
    return not problem


def _read_clip(reader: ShardReader, record: int, run: TrainedRun | None) -> list[np.ndarray]:
    """The centre crops of the clip in the video's middle; without a run, whole frames.

    Raises:
        DamagedRecord: the record or one of the frames is damaged.
    """
    count = int(reader.index.num_frames[record])
    if run is None:
        return read_pictures(reader, record, ONE_VIEW.frames(count, _SHOWN)[0].tolist())
    data = run.config.data
    frames = ONE_VIEW.frames(count, data.num_frames, data.sampling, run.model.segment_frames)
    seen, inverse = np.unique(frames, return_inverse=True)
    pictures = read_pictures(reader, record, seen.tolist())
    inverse = inverse.reshape(frames.shape)
    return list(ONE_VIEW.crop_frames(pictures, inverse, data.crop, data.resize, data.sampling)[0])


def _compute_maps(run: TrainedRun, clips: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grad-CAM of the last layer, each clip's largest value 1: float32 [B, t, h, w].

    Args:
        run: the model.
        clips: uint8 [B, T·S, H, W, 3].
        classes: int [B], whose evidence is sought.
    """
    preprocess = preprocessing(run.model)
    look = jax.jit(
        lambda variables, clips, classes: grad_cam(
            run.model, variables, preprocess(clips), classes
        ),
        compiler_options=compiler_options(),
    )
    # One clip at a time: a gradient holds every layer's output.
    maps = [
        np.asarray(look(run.variables, clip[None], label[None]))[0]
        for clip, label in zip(clips, classes.astype(np.int32), strict=True)
    ]
    heat = np.array(maps)
    return heat / np.maximum(heat.max((1, 2, 3), keepdims=True), 1e-12)


def _thin_out(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """At most `_SHOWN` frames, in equal steps."""
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _SHOWN)).round().astype(int)
    return [pictures[k] for k in chosen.tolist()]
