"""The data of a run: its two splits, the plan of all batches, and what a row goes through."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from aia_jax import models, sharding
from aia_jax.data.augment import TrainTransform
from aia_jax.data.clip_changes import clip_changes
from aia_jax.data.flips import flip_pairs
from aia_jax.data.plan import BatchPlan, training_records
from aia_jax.errors import UserError
from aia_jax.shards.class_names import notes_on_labels
from aia_jax.shards.dataset_info import DatasetInfo, check_against_config, open_dataset
from aia_jax.shards.fingerprint import describe_data
from aia_jax.shards.manifest import compare_manifest
from aia_jax.shards.reader import ShardReader, open_split


@dataclass(frozen=True, eq=False)
class RunData:
    """What a run reads, and how.

    Attributes:
        info: of the data set.
        train: reader of the training split.
        validation: reader of the validation split.
        description: from `describe_data`; a run goes on with its own videos only.
        plan: of the training batches.
        training_labels: of the videos that `plan` draws: int [N], -1 for a damaged one, or uint8
            [N, K] if a video may have several.
        transform: what a training row goes through.
        frames: how frames are taken and resized, the arguments that training and evaluation share.
        loading: of `train_batches` and `eval_batches`: label, this host's block, workers.
        too_short: training videos that have too few frames to train on.
        notes: for the user.
    """

    info: DatasetInfo
    train: ShardReader
    validation: ShardReader
    description: dict[str, Any]
    plan: BatchPlan
    training_labels: np.ndarray
    transform: TrainTransform
    frames: Mapping[str, Any]
    loading: Mapping[str, Any]
    too_short: int
    notes: list[str]


def open_run_data(config: ConfigDict, mesh: Mesh) -> RunData:
    """Opens the data that a run is trained on and validated with.

    Args:
        config: of the run. It gets what the data say: `data.num_classes`, `data.label_kind`.
        mesh: of the batches.

    Raises:
        UserError: the data are not there, not whole, or not what the config says.
    """
    data = config.data
    info = open_dataset(data.dir, data.label)
    splits = data.train_split, data.val_split
    train, validation = (open_split(data.dir, split) for split in splits)
    indices = {data.train_split: train.index, data.val_split: validation.index}
    data.num_classes = check_against_config(info, data.num_classes, indices)
    data.label_kind = _label_kind(data.label_kind, info)
    notes = compare_manifest(info, splits, data.resize)
    labels = {split: index.label_set(data.label).values for split, index in indices.items()}
    notes += notes_on_labels(info.class_names, labels, data.train_split)

    segment_frames = models.NETWORKS[config.model.name].module.segment_frames
    records, too_short = training_records(train, segment_frames)
    if info.multilabel and data.balance:
        raise UserError(
            f"data.balance={data.balance:g} draws videos by their class, but those of {info.dir} "
            "have several labels each; leave it out, or even out the loss with train.class_weights"
        )
    plan = BatchPlan(
        records,
        config.train.batch_size,
        config.seed,
        labels=train.index.labels[data.label],
        balance=data.balance,
    )
    if plan.balance:
        notes.append(f"data.balance={data.balance:g}: {plan.balance.describe()}")
    frames = {"resize": data.resize, "sampling": data.sampling, "segment_frames": segment_frames}
    transform = TrainTransform(
        data.num_frames,
        data.crop,
        flip_pairs(info.class_names).partner,
        scales=data.scales,
        short_side=data.short_side,
        resized_crop=data.resized_crop,
        flip=data.flip,
        changes=clip_changes(data),
        **frames,
    )
    notes += transform.short_video_notes(train.index.num_frames[records], data.train_split)
    host_index, host_count = sharding.host_block(mesh)
    return RunData(
        info=info,
        train=train,
        validation=validation,
        description=describe_data(info, indices),
        plan=plan,
        training_labels=(
            train.index.multi_hot(data.label, records, data.num_classes)
            if data.label_kind == "multi"
            else train.index.labels[data.label][records]
        ),
        transform=transform,
        frames=frames,
        loading={
            "label": data.label,
            "multi_hot": data.num_classes if info.multilabel else 0,
            "host_index": host_index,
            "host_count": host_count,
            "workers": data.workers,
            "threads": data.threads,
            "prefetch": data.prefetch,
        },
        too_short=len(too_short),
        notes=notes,
    )


def _label_kind(asked: str, info: DatasetInfo) -> str:
    """The value of `data.label_kind` by the data; raises `UserError` if the config has another."""
    found = "multi" if info.multilabel else "single"
    if asked not in ("", found):
        have = "several labels each" if info.multilabel else "one label each"
        raise UserError(
            f"data.label_kind={asked}: by its metadata the videos of {info.dir} have {have}; set "
            f"--config.data.label_kind={found}, or prepare the data set again"
        )
    return found
