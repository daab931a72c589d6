"""The classes, labels and videos of the data of a test, as its score file names them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aia_jax.checkpoints.run_config import first_difference
from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.errors import UserError
from aia_jax.shards.dataset_info import DatasetInfo
from aia_jax.shards.index import Index
from aia_jax.weights.open import name_classes


class MatchedClasses(NamedTuple):
    """How the classes of data and network belong together.

    Attributes:
        run: the network, with the names of its classes.
        label_of: int64 [K], the network's label of each of the data's.
        notes: for the user.
    """

    run: TrainedRun
    label_of: np.ndarray
    notes: list[str]


def match_classes(run: TrainedRun, names: Sequence[str], folder: str) -> MatchedClasses:
    """Compares the classes of the data with those of the network.

    Args:
        run: the network. One that no run here has trained may have the classes in another order,
            and takes the data's names if it has none.
        names: of the data's classes, by label.
        folder: of the data.

    Raises:
        UserError: the classes are others, or of a run's own data in another order.
    """
    same, notes = np.arange(len(names)), []
    if not run.names_known:
        run = name_classes(run, names, folder)
        notes = [f"{run.workdir} does not name its classes: they are taken as those of {folder}"]
        return MatchedClasses(run, same, notes)
    if run.class_names == tuple(names):
        return MatchedClasses(run, same, notes)
    labels = {name: label for label, name in enumerate(run.class_names)}
    if run.step is None and labels.keys() == set(names) and len(labels) == len(names):
        notes = [f"{folder} has the classes in another order than {run.workdir}: matched by name"]
        return MatchedClasses(run, np.array([labels[name] for name in names]), notes)
    if run.step is not None:
        raise UserError(
            f"{folder} does not name the classes that {run.workdir} was trained on "
            f"({first_difference(run.class_names, names)}); use the run's data"
        )
    other = next((name for name in names if name not in labels), None)
    lacking = f", such as {other!r}" if other is not None else ""
    raise UserError(
        f"{folder} has {len(names)} classes that are not the {len(labels)} of {run.workdir}"
        f"{lacking} ({first_difference(run.class_names, names)}); use data with the network's "
        "classes, or name these with --classes if the weights have wrong names"
    )


def check_label_kind(run: TrainedRun, info: DatasetInfo, folder: str) -> None:
    """Checks that data and network both have one label a video, or both several.

    Raises:
        UserError: one has several labels a video and the other has not.
    """
    if run.multilabel == info.multilabel:
        return
    wanted = "multi" if info.multilabel else "single"
    network = (
        "several labels a video (sigmoid)" if run.multilabel else "one label a video (softmax)"
    )
    raise UserError(
        f"{folder} has {'several labels' if info.multilabel else 'one label'} a video, and the "
        f"network of {run.workdir} was trained for {network}; if its head is meant otherwise, test "
        f"with --config.data.label_kind={wanted}"
    )


def video_names(index: Index) -> list[str]:
    """The id of each video; where videos share one, the record's number is added to the later."""
    names: list[str] = []
    seen: set[str] = set()
    for record in range(len(index)):
        name = index.video_id(record)
        while name in seen:
            name = f"{name} (record {record})"
        seen.add(name)
        names.append(name)
    return names


def true_labels(index: Index, label: str, label_of: np.ndarray, multilabel: bool) -> np.ndarray:
    """What the network should say of each video, as `Scores` has it.

    Args:
        index: of the split.
        label: the label feature.
        label_of: from `match_classes`.
        multilabel: whether videos have several labels.

    Returns:
        int64 [N], see `known_labels`; of several labels bool [N, K], by the network's labels, with
        no class for a damaged video.
    """
    if not multilabel:
        return known_labels(index.labels[label], label_of)
    sets = index.multi_hot(label, np.arange(len(index)), len(label_of)).astype(bool)
    labels = np.zeros_like(sets)
    labels[:, label_of] = sets
    return labels


def known_labels(labels: np.ndarray, label_of: np.ndarray) -> np.ndarray:
    """The network's label of each video: int64 [N]; 0 for a damaged one whose label is not known.

    Args:
        labels: int [N], the data's; -1 where not known.
        label_of: from `match_classes`.
    """
    known = (labels >= 0) & (labels < len(label_of))
    return np.where(known, label_of[np.where(known, labels, 0)], 0).astype(np.int64)
