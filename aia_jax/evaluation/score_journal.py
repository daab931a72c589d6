"""The scores of a test that has not ended: a killed test goes on from the videos that it has.

A journal is a folder `<name of the score file>_<8 digits of the identity>.partial`. Every file in
it, `000000.npz`, `000001.npz` …, is written once and whole, and holds the scores of some hundred
videos. `about.json` says which test they are of.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from aia_jax.errors import UserError
from aia_jax.evaluation.score_files import read_arrays, write_arrays, writing
from aia_jax.evaluation.scores import Evaluation, Scores, ScoresError, check_finite
from aia_jax.files import write_text

_FORMAT = 1
_ABOUT = "about.json"
_AGAIN = "its videos are evaluated again"
_MAX_VIDEOS, _MAX_SECONDS = 512, 60.0  # of a file; a killed test loses no more than these


class ScoreJournal:
    """Collects the logits of a test's videos in any order, each video once.

    One process writes a journal, whatever the number of hosts: every host has the whole batch's
    logits. A video that could not be read is not added, so that a continued test tries it again.

    Attributes:
        folder: of the journal.
        done: bool [N], the videos that have scores.
        logits: float32 [N, K]; 0 where there are none.
        view_logits: float32 [N, V, K]; None where views are not kept.
        notes: what was found wrong when the journal was opened, a line each.
    """

    def __init__(
        self, score_file: Path, identity: str, num_videos: int, num_classes: int, views: int = 0
    ):
        """Opens a journal and reads what it has, or starts one.

        Args:
            score_file: where the scores go in the end, from `score_path`.
            identity: of the test, from `scores.identity`. Tests of other identities have other
                folders, so none continues another.
            num_videos: N of the split.
            num_classes: K.
            views: V of each video, to keep their logits too; 0: they are not kept.

        Raises:
            UserError: the folder cannot be read or written, or is of another test after all.
        """
        kept = f"_views{views}" if views else ""
        self.folder = score_file.with_name(f"{score_file.stem}_{identity[:8]}{kept}.partial")
        self.done = np.zeros(num_videos, bool)
        self.logits = np.zeros((num_videos, num_classes), np.float32)
        self.view_logits = np.zeros((num_videos, views, num_classes), np.float32) if views else None
        self.notes: list[str] = []
        self._waiting: list[np.ndarray] = []  # records that no file has yet
        self._written = time.monotonic()
        about = {
            "format": _FORMAT,
            "identity": identity,
            "videos": num_videos,
            "classes": num_classes,
            "views": views,
        }
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_about(about)
            files = sorted(self.folder.glob("*.npz"))
            numbers = [int(file.stem) for file in files if file.stem.isdecimal()]
            self._next = max(numbers, default=-1) + 1  # of the next file
        for file in files:
            self._read(file)

    def __enter__(self) -> "ScoreJournal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def remaining(self) -> np.ndarray:
        """The records without scores, int64, ascending."""
        return np.flatnonzero(~self.done)

    def add(
        self, records: np.ndarray, logits: np.ndarray, view_logits: np.ndarray | None = None
    ) -> None:
        """Adds videos; writes a file when enough have come together.

        Args:
            records: int [b], the videos' numbers in the split; rows of -1 (padding) are left out.
            logits: float32 [b, K].
            view_logits: float32 [b, V, K], if the journal keeps them.

        Raises:
            ScoresError: a logit is not finite.
            ValueError: a video has scores already: the caller would evaluate it twice.
            UserError: the file cannot be written.
        """
        rows = np.flatnonzero(records >= 0)
        records, logits = records[rows].astype(np.int64), logits[rows]
        check_finite(logits, [f"number {record}" for record in records])
        if self.done[records].any() or len(np.unique(records)) < len(records):
            raise ValueError(f"{self.folder} has scores of some of the videos {records.tolist()}")
        self.done[records] = True
        self.logits[records] = logits
        if self.view_logits is not None:
            self.view_logits[records] = view_logits[rows]
        self._waiting.append(records)
        late = time.monotonic() - self._written > _MAX_SECONDS
        if late or sum(map(len, self._waiting)) >= _MAX_VIDEOS:
            self.flush()

    def flush(self) -> None:
        """Writes what no file has yet."""
        if not any(map(len, self._waiting)):
            return
        records = np.concatenate(self._waiting)
        arrays = {"records": records, "logits": self.logits[records]}
        if self.view_logits is not None:
            arrays["view_logits"] = self.view_logits[records]
        write_arrays(self.folder / f"{self._next:06d}.npz", arrays)
        self._next += 1
        self._waiting.clear()
        self._written = time.monotonic()

    def to_scores(
        self,
        about: Evaluation,
        ids: Sequence[str],
        labels: np.ndarray,
        class_names: Sequence[str],
    ) -> Scores:
        """The scores of the test; videos without any count as not evaluated.

        Args:
            about: the test.
            ids: of the N videos.
            labels: int [N]; of several labels a video bool [N, K].
            class_names: K names by label.

        Raises:
            ScoresError: see `Scores`.
        """
        return Scores(
            about,
            np.array(ids, np.str_),
            labels if labels.ndim == 2 else labels.astype(np.int64),
            tuple(class_names),
            self.logits,
            self.done,
            self.view_logits,
        )

    def remove(self) -> None:
        """Deletes the journal, after the score file is in its place."""
        with writing(self.folder):
            shutil.rmtree(self.folder)

    def _check_about(self, about: dict[str, Any]) -> None:
        path = self.folder / _ABOUT
        if not path.exists():
            write_text(path, json.dumps(about) + "\n")
            return
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}); delete {self.folder} to start the test again"
            ) from error
        if found != about:
            raise UserError(
                f"{self.folder} has scores of another test: {path.name} says {found}, expected "
                f"{about}; delete the folder, or give another place"
            )

    def _read(self, file: Path) -> None:
        """Takes the scores of one file, or leaves it out with a note if it is damaged."""
        names = ("records", "logits", *(["view_logits"] if self.view_logits is not None else []))
        try:
            arrays = read_arrays(file, names, (), _AGAIN)
            self._check(file, arrays)
        except ScoresError as error:
            self.notes.append(str(error))
            with writing(file):
                file.rename(file.with_name(f"{file.name}.damaged"))
            return
        records = arrays["records"]
        fresh = ~self.done[records]
        if not fresh.all():
            self.notes.append(
                f"{file} has scores of {(~fresh).sum()} videos that an earlier file has too; the "
                "earlier ones count"
            )
        records = records[fresh]
        self.done[records] = True
        self.logits[records] = arrays["logits"][fresh]
        if self.view_logits is not None:
            self.view_logits[records] = arrays["view_logits"][fresh]

    def _check(self, file: Path, arrays: dict[str, np.ndarray]) -> None:
        records = arrays["records"]
        if records.dtype != np.int64 or records.ndim != 1:
            raise ScoresError(
                f"{file}: records are {records.dtype} {list(records.shape)}; {_AGAIN}"
            )
        outside = (records < 0) | (records >= len(self.done))
        if outside.any() or len(np.unique(records)) < len(records):
            raise ScoresError(f"{file}: records are no videos of the split, or twice; {_AGAIN}")
        for name, whole in (("logits", self.logits), ("view_logits", self.view_logits)):
            if whole is None:
                continue
            found, expected = arrays[name], (len(records), *whole.shape[1:])
            if found.dtype != np.float32 or found.shape != expected:
                raise ScoresError(
                    f"{file}: {name} are {found.dtype} {list(found.shape)}, expected float32 "
                    f"{list(expected)}; {_AGAIN}"
                )
            if not np.isfinite(found).all():
                raise ScoresError(f"{file}: {name} have NaN or infinity; {_AGAIN}")
