"""One feature vector a video, for probes, retrieval and clustering outside this project.

It is the mean over frames and views of what the network's head sees of a frame. Of a ResNet that is
the mean of the last feature map over height and width, of a ViT the class token.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from aia_jax import sharding
from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.compile_cache import compiler_options
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.prefetch import prefetch_to_mesh
from aia_jax.data.views import Views
from aia_jax.errors import UserError
from aia_jax.evaluation.score_files import SUFFIX, write_arrays
from aia_jax.evaluation.scoring import choose_batch, remaining_rows, score_videos
from aia_jax.evaluation.tested_data import video_names
from aia_jax.frame_geometry import resize_text
from aia_jax.memory import evaluation_advice, memory_advice
from aia_jax.prediction.frame_format import find_frame_format
from aia_jax.prediction.functions import mean_features
from aia_jax.prediction.predict import (
    Classifier,
    Unreadable,
    VideoViews,
    choose_batch_size,
    compute_views,
)
from aia_jax.shapes import Array, PyTree
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.fingerprint import fingerprint, short_text
from aia_jax.shards.reader import open_split
from aia_jax.training.workdir import open_damage_log

FORMAT = 1


class Features(NamedTuple):
    """The features of N videos.

    Attributes:
        ids: names of the videos, each once.
        labels: int64 [N]; -1 where not known. Of data with several labels a video bool [N, K].
        class_names: by label; () where there are no labels.
        vectors: float32 [N, C].
        unreadable: (video, reason) of each video that is left out.
        data: "split" and "fingerprint" of prepared data; {} of files.
    """

    ids: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    vectors: np.ndarray
    unreadable: list[tuple[str, str]]
    data: Mapping[str, Any]


def features_of_split(
    run: TrainedRun, folder: Path, split: str, label: str, views: Views, log_folder: Path
) -> Features:
    """Computes the features of every video of a prepared split, each once.

    Classes and labels are the data's, which need not be those of the network.

    Args:
        run: the network.
        folder: of the data.
        split: of the data.
        label: the label feature.
        views: of each video.
        log_folder: for bad_records.txt, if records are damaged.

    Raises:
        DataError: there are no such data, or too many of their records are damaged.
    """
    config, data = run.config, run.config.data
    info, reader = open_dataset(folder, label), open_split(folder, split)
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.eval.batch_size, "eval.batch_size")
    batch = choose_batch(config.eval.batch_size, len(views), sharding.row_shards(mesh))
    damage = open_damage_log(log_folder, reader, data.damaged_share)
    rows = remaining_rows(np.zeros(len(reader), bool), batch.videos)
    batches = eval_batches(
        reader,
        batch.videos,
        data.num_frames,
        data.crop,
        views,
        resize=data.resize,
        sampling=data.sampling,
        segment_frames=run.model.segment_frames,
        records=rows,
        label=label,
        workers=data.workers,
        threads=data.threads,
        prefetch=data.prefetch,
    )
    on_every_device = sharding.replicated(mesh)
    step = jax.jit(
        sharding.on_mesh(mesh, _feature_step(run.model, batch.views)),
        out_shardings=on_every_device,
        compiler_options=compiler_options(),
    )
    found: dict[int, np.ndarray] = {}
    with memory_advice(lambda: evaluation_advice(config)):
        scored = score_videos(
            step,
            jax.device_put(run.variables, on_every_device),
            prefetch_to_mesh(batches, mesh, data.prefetch),
            rows,
            batch,
            len(views),
            damage,
            reader.index.video_id,
        )
        for records, vectors in scored:
            means = vectors.mean(1)
            found |= {record: means[row] for row, record in enumerate(records) if record >= 0}
    names, order = video_names(reader.index), sorted(found)
    if info.multilabel:
        labels = reader.index.multi_hot(label, np.array(order, int), len(info.class_names))
        labels = labels.astype(bool)
    else:
        labels = reader.index.labels[label][order].astype(np.int64)
    damaged = f"its record is damaged; {damage.path} names it"
    return Features(
        [names[record] for record in order],
        labels,
        info.class_names,
        _stack([found[record] for record in order]),
        [(name, damaged) for record, name in enumerate(names) if record not in found],
        {
            "split": split,
            "fingerprint": short_text(fingerprint(reader.index, info.label_feature)),
        },
    )


def features_of_files(run: TrainedRun, sources: Sequence[Path], views: Views) -> Features:
    """Computes the features of videos and folders of frames, each once; they have no labels."""
    batch = choose_batch_size(len(sources) * len(views))
    network = Classifier(run, batch, mean_features(run.model))
    ids, means, unreadable = [], [], []
    for found in compute_views(run, sources, views, find_frame_format(run), network):
        if isinstance(found, Unreadable):
            unreadable.append((str(found.source), found.reason))
            continue
        video, vectors = found
        ids.append(_name(video))
        means.append(np.mean(vectors, axis=0))
    labels = np.full(len(ids), -1, np.int64)
    return Features(ids, labels, (), _stack(means), unreadable, {})


def check_out(path: Path) -> None:
    """Checks, before anything is computed, that features can be written to `path`.

    Raises:
        UserError: another ending, or a folder that is not there.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"--out {path}: the name must end with {SUFFIX}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}")


def write_features(path: Path, features: Features, run: TrainedRun, views: Views) -> None:
    """Writes an .npz: `features`, `ids`, `labels`, `class_names`, and `about`, a JSON text.

    Raises:
        UserError: no video could be read, or the file cannot be written.
    """
    if not features.ids:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in features.unreadable[:3])
        raise UserError(f"no video could be read, and {path} is not written: {reasons}")
    data = run.config.data
    about = {
        "format": FORMAT,
        "kind": "features",
        "network": run.model.describe(),
        "from": str(run.workdir),
        "step": run.step,
        "weights": run.weights_fingerprint(),
        "data": dict(features.data),
        "frames": data.num_frames,
        "clips": views.clips,
        "crops": views.crops,
        "crop_size": data.crop,
        "resize": resize_text(data.resize),
    }
    write_arrays(
        path,
        {
            "features": features.vectors,
            "ids": np.array(features.ids),
            "labels": features.labels,
            "class_names": np.array(features.class_names, str),
            "about": np.array(json.dumps(about)),
        },
    )


def _feature_step(
    model: nn.Module, views: int
) -> Callable[[PyTree, dict[str, Array], Array], tuple[Array, Array]]:
    """As `make_view_step`, with the features of each view, float32 [B, views, C]."""
    apply = mean_features(model)

    def step(variables: PyTree, batch: dict[str, Array], first: Array) -> tuple[Array, Array]:
        clips = batch["clips"]
        if clips.ndim == 5:
            clips = clips[:, None]
        videos, frames = clips.shape[0], clips.shape[-4:]
        clips = jax.lax.dynamic_slice_in_dim(clips, first, views, axis=1)
        vectors = apply(variables, clips.reshape(-1, *frames))
        return vectors.reshape(videos, views, -1), batch["weights"]

    return step


def _name(video: VideoViews) -> str:
    # NumPy's texts hold no bytes that are no text.
    return str(video.source).encode(errors="backslashreplace").decode()


def _stack(vectors: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(vectors).astype(np.float32) if len(vectors) else np.zeros((0, 0), np.float32)
