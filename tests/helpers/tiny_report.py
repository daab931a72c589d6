"""Score files of prepared data, for tests of reports."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.evaluation.scores import Scores
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.fingerprint import fingerprint, short_text
from aia_jax.shards.reader import open_split
from tests.helpers.tiny_scores import make_scores


def scores_of(data: Path, seed: int = 0, split: str = "validation", **fields: Any) -> Scores:
    """Random scores for the videos of a prepared data set, with its fingerprint."""
    index, names = open_split(data, split).index, open_dataset(data).class_names
    scores = make_scores(
        len(index),
        len(names),
        seed,
        labels=index.labels["label"],
        **{"split": split, "data": short_text(fingerprint(index, "label")), **fields},
    )
    ids = np.array([index.video_id(record) for record in range(len(index))])
    return dataclasses.replace(scores, ids=ids, class_names=tuple(names))
