"""Runs a network over all views of a split's videos, and keeps the logits of each video.

A batch holds whole videos, with all their views. The views of a batch go through the network in
parts, one after another, so a part is never more clips than `eval.batch_size`, and the memory that
activations take does not depend on the number of views.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from aia_jax.data.prefetch import MeshPrefetch
from aia_jax.evaluation.score_journal import ScoreJournal
from aia_jax.evaluation.scores import average_views, check_finite
from aia_jax.shapes import PyTree
from aia_jax.shards.damage_log import DamageLog


class BatchShape(NamedTuple):
    """How many clips go through the network at once.

    Attributes:
        videos: of a global batch.
        views: of each video in a call of the network; the number of all views is a multiple of it.
    """

    videos: int
    views: int


def choose_batch(clips: int, views: int, shards: int) -> BatchShape:
    """Fits batches of whole videos to a number of clips.

    Args:
        clips: the most of one call, `eval.batch_size`; a multiple of `shards`.
        views: of each video.
        shards: parts into which a batch is split over the mesh; each takes the same number of rows.

    Returns:
        As many videos as fit with all their views. If not even one for each shard does, one for
        each shard and as many of its views as fit.
    """
    videos = max(clips // views // shards, 1) * shards
    parts = [part for part in range(1, views + 1) if views % part == 0]
    return BatchShape(videos, max(part for part in parts if videos * part <= clips))


def remaining_rows(done: np.ndarray, videos: int) -> np.ndarray:
    """The record of each row of the batches that are still to do: int64, -1 for a row without one.

    A video has the same row of a batch whatever is done already, so a continued test computes the
    same bits as an undisturbed one.

    Args:
        done: bool [N], by record.
        videos: of a batch.
    """
    rows = np.full(-(-len(done) // videos) * videos, -1, np.int64)
    rows[: len(done)] = np.where(done, -1, np.arange(len(done)))
    rows = rows.reshape(-1, videos)
    return rows[(rows >= 0).any(1)].ravel()


def shared_with_all_hosts(done: np.ndarray) -> np.ndarray:
    """Process 0's `done`, bool [N], on every process."""
    if jax.process_count() == 1:
        return done
    return np.asarray(multihost_utils.broadcast_one_to_all(done)).astype(bool)


def score_videos(
    view_step: Callable[[PyTree, Mapping[str, Any], np.ndarray], tuple[jax.Array, jax.Array]],
    variables: PyTree,
    batches: MeshPrefetch,
    rows: np.ndarray,
    batch_shape: BatchShape,
    num_views: int,
    damage: DamageLog,
    name_of: Callable[[int], str],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives the logits of every video, the same on every host.

    Args:
        view_step: from `make_view_step`, jitted, with results on every device.
        variables: {"params", "batch_stats"}.
        batches: from `eval_batches` with `rows`, on the mesh; closed at the end.
        rows: from `remaining_rows`.
        batch_shape: from `choose_batch`.
        num_views: V of each video.
        damage: takes this host's damaged videos.
        name_of: gives a record's name, for error messages.

    Yields:
        A batch's records, int64 [B], -1 where a row has none or is damaged, and their logits,
        float32 [B, V, K].

    Raises:
        ScoresError: a logit is NaN or infinite; names the video.
        DataError: too many damaged videos, see `DamageLog.add`.
    """
    waiting: deque[tuple[int, list[tuple[jax.Array, jax.Array]]]] = deque()

    def fetch() -> tuple[np.ndarray, np.ndarray]:
        number, parts = waiting.popleft()
        logits = np.concatenate([np.asarray(part, np.float32) for part, _ in parts], axis=1)
        numbers = rows[number * batch_shape.videos : (number + 1) * batch_shape.videos]
        records = np.where(np.asarray(parts[0][1]) > 0, numbers, -1)
        seen = np.flatnonzero(records >= 0)
        check_finite(logits[seen], [name_of(record) for record in records[seen].tolist()])
        return records, logits

    with batches:
        for number, batch in enumerate(batches):
            damage.add(batch["damaged"].ravel())
            arrays = {name: batch[name] for name in ("clips", "weights")}
            parts = [
                view_step(variables, arrays, np.int32(first))
                for first in range(0, num_views, batch_shape.views)
            ]
            waiting.append((number, parts))
            # The devices work on this batch while the logits of the one before it are fetched.
            if len(waiting) > 1:
                yield fetch()
        while waiting:
            yield fetch()


def keep_scores(
    scored: Iterator[tuple[np.ndarray, np.ndarray]],
    averaging: str,
    done: np.ndarray,
    journal: ScoreJournal | None,
    multilabel: bool = False,
) -> np.ndarray:
    """Averages the views of each video and writes them to the journal as they come.

    Args:
        scored: from `score_videos`.
        averaging: one of `scores.AVERAGING`.
        done: bool [N], videos with scores from before.
        journal: of process 0; None on the others.
        multilabel: see `average_views`.

    Returns:
        bool [N], the videos that have scores now, the same on every host.
    """
    done = done.copy()
    for records, view_logits in scored:
        done[records[records >= 0]] = True
        if journal is not None:
            kept = None if journal.view_logits is None else view_logits
            journal.add(records, average_views(view_logits, averaging, multilabel), kept)
    return done
