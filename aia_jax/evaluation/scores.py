"""Scores: the logits of every video of a split, and what was tested, on what, and how.

Numbers, tables and pictures are computed from scores. They need NumPy only: neither the network nor
the videos.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, logsumexp, softmax

from aia_jax.errors import UserError
from aia_jax.evaluation.multilabel import mean_of_sigmoids

AVERAGING = ("logits", "probabilities")  # what is averaged over the views of a video

# The fields of an `Evaluation` that decide its logits. The others only describe it.
_DECIDING = (
    *("split", "label", "frames", "crops", "clips", "crop_size", "resize", "sampling"),
    *("averaging", "model", "weights", "data"),
)


class ScoresError(UserError):
    """Scores that nothing may be computed from; the text names the array and the fault."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A test of one network by one protocol.

    Attributes:
        dataset: the data set's name, the recipe's `data.name`.
        split: the data's split.
        label: the label feature: "label", or "verb".
        frames: of a clip.
        crops: of each clip.
        clips: of each video.
        crop_size: pixels, height and width of the network's input.
        resize: of the frames before they are cropped: "240x320", "short256"; "" for the stored.
        averaging: what was averaged over the views: one of `AVERAGING`.
        step: of the checkpoint; None for weights that no run has trained.
        network: in words, the network's `describe()`.
        model: the fields of `config.model`.
        params: trained numbers of the network.
        macs: multiply-accumulates of one view, `Complexity.macs`.
        paper_flops: of one view as the paper counts them, `Complexity.paper_flops`.
        weights: fingerprint of the weights.
        data: fingerprint of the prepared data.
        config: the recipe's name.
        overrides: the recipe's fields that were set otherwise, "key=value" each.
        paper: the recipe's `config.paper`: the paper's number in words.
        sampling: the rule by which frames and crops were taken, `data.sampling`.
    """

    dataset: str
    split: str
    label: str
    frames: int
    crops: int
    clips: int
    crop_size: int
    resize: str
    averaging: str
    step: int | None
    network: str
    model: Mapping[str, Any]
    params: int
    macs: int
    paper_flops: int
    weights: str
    data: str
    config: str = ""
    overrides: tuple[str, ...] = ()
    paper: str = ""
    sampling: str = "reference"

    def __post_init__(self) -> None:
        if self.averaging not in AVERAGING:
            raise ScoresError(
                f"averaging is {self.averaging!r}; expected one of {', '.join(AVERAGING)}"
            )
        for name in ("frames", "crops", "clips", "crop_size"):
            if getattr(self, name) < 1:
                raise ScoresError(f"{name} is {getattr(self, name)}; expected 1 or more")

    @property
    def views(self) -> int:
        """Views of each video: crops times clips."""
        return self.crops * self.clips

    @property
    def protocol(self) -> str:
        """Frames × crops × clips, as the paper's Table II writes them."""
        return f"{self.frames}×{self.crops}×{self.clips}"

    @property
    def title(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        return f"{self.network}, {self.protocol}{step}"


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Several tests on the same videos, joined.

    Attributes:
        rule: how their scores were joined, one of `ensembles.RULES`.
        weights: of the members.
        members: the tests.
    """

    rule: str
    weights: tuple[float, ...]
    members: "tuple[Evaluation | Ensemble, ...]"

    def __post_init__(self) -> None:
        if not self.members or len(self.weights) != len(self.members):
            raise ScoresError(
                f"the ensemble has {len(self.members)} members and {len(self.weights)} weights; "
                "expected one weight for each member"
            )

    @property
    def tests(self) -> tuple[Evaluation, ...]:
        """The tests of all members, those of ensembles among them too."""
        return tuple(test for member in self.members for test in tests(member))

    @property
    def dataset(self) -> str:
        return self.tests[0].dataset

    @property
    def split(self) -> str:
        return self.tests[0].split

    @property
    def label(self) -> str:
        return self.tests[0].label

    @property
    def protocol(self) -> str:
        """As the paper's Table II writes it: "(8+12+16)×3×2"."""
        views = {(test.crops, test.clips) for test in self.tests}
        if len(views) > 1:
            return "+".join(test.protocol for test in self.tests)
        ((crops, clips),) = views
        frames = sorted(test.frames for test in self.tests)
        return f"({'+'.join(map(str, frames))})×{crops}×{clips}"

    @property
    def title(self) -> str:
        networks = dict.fromkeys(test.network for test in self.tests)
        return f"{' + '.join(networks)}, {self.protocol}, ensemble of {len(self.members)}"


About = Evaluation | Ensemble


def tests(about: About) -> tuple[Evaluation, ...]:
    """The tests that scores come from: one, or an ensemble's."""
    return about.tests if isinstance(about, Ensemble) else (about,)


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """The scores of N videos for K classes; checked when made.

    Attributes:
        about: what was tested.
        ids: str [N], the videos' names; each once.
        labels: int64 [N], each from 0 to K − 1; or bool [N, K], the classes of each video, of data
            with several labels a video.
        class_names: K names by label; each once.
        logits: float32 [N, K], the mean over a video's views. Their softmax (of several labels a
            video their sigmoid) is the network's probability, also where probabilities were
            averaged.
        evaluated: bool [N]; False for a video that could not be read, whose logits are 0.
        view_logits: float32 [N, V, K] of each view, the crops of a clip one after another; None
            where they were not kept.

    Raises:
        ScoresError: an array of another dtype or shape, a name or video that is there twice, a
            label that is no class, a logit that is not finite.
    """

    about: About
    ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    logits: np.ndarray
    evaluated: np.ndarray
    view_logits: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, classes = len(self), len(self.class_names)
        _check_array("ids", self.ids, "U", (count,))
        if self.multilabel:
            _check_array("labels", self.labels, "bool", (count, classes))
        else:
            _check_array("labels", self.labels, "int64", (count,))
        _check_array("logits", self.logits, "float32", (count, classes))
        _check_array("evaluated", self.evaluated, "bool", (count,))
        if not count or not classes:
            raise ScoresError(f"found {count} videos and {classes} classes; expected some of both")
        _check_unique("ids", "video", self.ids.tolist())
        _check_unique("class_names", "class", self.class_names)
        outside = (self.labels < 0) | (self.labels >= classes)
        wrong = () if self.multilabel else np.flatnonzero(outside)
        if len(wrong):
            raise ScoresError(
                f"labels: video {self.ids[wrong[0]]} has {self.labels[wrong[0]]}; expected 0 to "
                f"{classes - 1} ({len(wrong)} such videos)"
            )
        check_finite(self.logits, self.ids)
        if self.view_logits is not None:
            shape = (count, sum(test.views for test in tests(self.about)), classes)
            _check_array("view_logits", self.view_logits, "float32", shape)
            check_finite(self.view_logits, self.ids)

    def __len__(self) -> int:
        return len(np.atleast_1d(self.ids))

    @property
    def multilabel(self) -> bool:
        """Whether a video has a set of labels, and each class a probability of its own."""
        return np.ndim(self.labels) == 2

    def probabilities(self, rows: Any = slice(None)) -> np.ndarray:
        """The network's probabilities of some videos' classes: float64 [M, K], or [K] of one."""
        logits = self.logits[rows].astype(np.float64)
        return expit(logits) if self.multilabel else softmax(logits, axis=-1)

    def label_text(self, row: int | np.integer) -> str:
        """The name of a video's class; of several "A, B", or "no class"."""
        if not self.multilabel:
            return self.class_names[self.labels[row]]
        names = [self.class_names[label] for label in np.flatnonzero(self.labels[row])]
        return ", ".join(names) or "no class"

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each video."""
        return {video: row for row, video in enumerate(self.ids.tolist())}

    def rows(self, rows: np.ndarray) -> "Scores":
        """The scores of some videos, in the order of `rows` (int [M], or bool [N])."""
        views = None if self.view_logits is None else self.view_logits[rows]
        return dataclasses.replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            logits=self.logits[rows],
            evaluated=self.evaluated[rows],
            view_logits=views,
        )

    def only_evaluated(self) -> "Scores":
        """The scores of the videos that count.

        Raises:
            ScoresError: there is none.
        """
        if not self.evaluated.any():
            raise ScoresError(
                f"none of the {len(self)} videos was evaluated: all of them are damaged, and "
                "nothing can be computed; prepare the data again"
            )
        return self if self.evaluated.all() else self.rows(self.evaluated)


def average_views(view_logits: np.ndarray, averaging: str, multilabel: bool = False) -> np.ndarray:
    """Joins the views of each video to one row of logits.

    Args:
        view_logits: float [..., V, K].
        averaging: "logits" takes their mean. "probabilities" takes the mean of the views' softmax,
            and returns its logarithm.
        multilabel: whether a class's probability is the sigmoid of its logit. The mean's logit
            stands for the logarithm then.

    Returns:
        float32 [..., K].
    """
    views = view_logits.astype(np.float64)
    if averaging == "logits":
        mean = views.mean(-2)
    elif multilabel:
        mean = mean_of_sigmoids(views, -2)
    else:
        # The logarithm is taken before a small probability is rounded to 0.
        mean = logsumexp(log_softmax(views, axis=-1), axis=-2) - np.log(views.shape[-2])
    return mean.astype(np.float32)


def identity(about: Evaluation, class_names: Sequence[str]) -> str:
    """SHA-256 of everything that decides the logits: weights, data, classes and protocol."""
    fields = {name: getattr(about, name) for name in _DECIDING}
    fields["model"] = dict(about.model)
    text = json.dumps([fields, list(class_names)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def check_finite(logits: np.ndarray, ids: np.ndarray | Sequence[str]) -> None:
    """Raises `ScoresError` if a video has a logit that is NaN or infinite; names the video.

    Args:
        logits: float32 [N, ...].
        ids: of the N videos.
    """
    # One NaN or infinity makes the sum so, and float32 numbers cannot overflow float64. The sum
    # needs no array of N·K booleans.
    if np.isfinite(logits.sum(dtype=np.float64)):
        return
    wrong = np.flatnonzero(~np.isfinite(logits).all(tuple(range(1, logits.ndim))))
    if len(wrong):
        raise ScoresError(
            f"logits: video {ids[wrong[0]]} has NaN or infinity ({len(wrong)} of {len(logits)} "
            "videos have); expected finite numbers: the weights have diverged, test another step"
        )


def _check_array(name: str, array: np.ndarray, dtype: str, shape: tuple[int, ...]) -> None:
    right = array.dtype.kind == "U" if dtype == "U" else array.dtype == np.dtype(dtype)
    if not right or array.shape != shape:
        raise ScoresError(
            f"{name}: found {array.dtype} {list(array.shape)}, expected "
            f"{'text' if dtype == 'U' else dtype} {list(shape)}"
        )


def _check_unique(name: str, noun: str, names: Sequence[str]) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    for value in names:
        if value in seen:
            raise ScoresError(f"{name}: the {noun} {value!r} is there twice; expected it once")
        seen.add(value)
