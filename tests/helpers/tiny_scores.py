"""Scores of a few videos, as a test would have written them."""

import dataclasses
from typing import Any

import numpy as np

from aia_jax.evaluation.scores import Evaluation, Scores

RESNET = {"name": "resnet", "depth": 50, "temporal": "tsm", "attention": "CinST->STinC"}


def make_evaluation(**fields: Any) -> Evaluation:
    """A test of TSM with attention on SSv2, one clip and crop; `fields` replace the usual ones."""
    usual = {
        "dataset": "ssv2",
        "split": "validation",
        "label": "label",
        "frames": 8,
        "crops": 1,
        "clips": 1,
        "crop_size": 224,
        "resize": "240x320",
        "averaging": "logits",
        "step": 120,
        "network": "TSM with CinST->STinC, ResNet-50",
        "model": RESNET,
        "params": 23_871_726,
        "macs": 32_960_035_104,
        "paper_flops": 33_150_000_000,
        "weights": "a1" * 32,
        "data": "d1" * 32,
        "config": "ssv2_aia_tsm",
    }
    return Evaluation(**(usual | fields))


def make_scores(
    videos: int = 20,
    classes: int = 6,
    seed: int = 0,
    *,
    labels: np.ndarray | None = None,
    logits: np.ndarray | None = None,
    damaged: tuple[int, ...] = (),
    **fields: Any,
) -> Scores:
    """Random scores; the same labels and ids for every seed.

    Args:
        videos: N.
        classes: K.
        seed: of the logits; tests of other seeds have other weights.
        labels: int64 [N], instead of random ones.
        logits: [N, K], instead of random ones.
        damaged: rows that count as not evaluated.
        fields: of the `Evaluation`.
    """
    rng = np.random.default_rng(seed)
    if logits is None:
        logits = rng.normal(size=(videos, classes))
    logits = np.array(logits, np.float32)
    if labels is None:
        labels = np.random.default_rng(99).integers(0, logits.shape[1], len(logits))
    evaluated = np.ones(len(logits), bool)
    evaluated[list(damaged)] = False
    logits[~evaluated] = 0
    return Scores(
        make_evaluation(**{"weights": f"{seed:064x}", **fields}),
        np.array([f"video{number:03d}" for number in range(len(logits))]),
        np.asarray(labels, np.int64),
        tuple(f"Class {label}" for label in range(logits.shape[1])),
        logits,
        evaluated,
    )


def make_set_scores(
    videos: int = 20,
    classes: int = 6,
    seed: int = 0,
    *,
    labels: np.ndarray | None = None,
    logits: np.ndarray | None = None,
    **more: Any,
) -> Scores:
    """Random scores of videos with several labels each, and of one without any.

    Args:
        videos, classes, seed, logits: as in `make_scores`.
        labels: bool [N, K], instead of random ones.
        more: as in `make_scores`.
    """
    scores = make_scores(videos, classes, seed, logits=logits, **more)
    if labels is None:
        labels = np.random.default_rng(98).random(scores.logits.shape) < 0.4
        labels[0], labels[1] = True, False
    return dataclasses.replace(scores, labels=labels)
