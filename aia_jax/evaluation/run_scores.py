"""Where the scores of tests lie in a run's folder, and their numbers beside them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aia_jax.checkpoints.last_result import SCORES
from aia_jax.errors import UserError
from aia_jax.evaluation.metrics import summarize
from aia_jax.evaluation.score_files import (
    SUFFIX,
    about_json,
    read_identity,
    write_scores,
    writing,
)
from aia_jax.evaluation.scores import Evaluation, Scores, identity
from aia_jax.files import write_text


def write_result(
    path: Path, scores: Scores, report: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes a test's score file, and its numbers beside it under the same name with `.json`.

    Args:
        path: from `score_path`.
        scores: of the test.
        report: more values for the JSON file, which those of the same names replace.

    Returns:
        The content of the JSON file: `report`, the numbers of `Summary` (top1, top5, loss … as
        fractions and nats, evaluated, expected), and `about`.

    Raises:
        UserError: a file cannot be written, or no video was evaluated (nothing is written then).
    """
    result = {
        **(report or {}),
        **summarize(scores).numbers(),
        "about": about_json(scores.about),
    }
    write_scores(path, scores)
    beside = path.with_suffix(".json")
    with writing(beside):
        write_text(beside, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def score_name(about: Evaluation, usual_crop: int | None = None) -> str:
    """The name of a test's files: `<split>_<frames>x<crops>x<clips>_<step>`.

    What is unusual is added to it: `_crop256` and `_probabilities`.

    Args:
        about: the test.
        usual_crop: the crop's size that the name does not mention, the recipe's; None: this one.
    """
    step = "weights" if about.step is None else about.step
    name = f"{about.split}_{about.frames}x{about.crops}x{about.clips}_{step}"
    if usual_crop not in (None, about.crop_size):
        name += f"_crop{about.crop_size}"
    if about.averaging != "logits":
        name += f"_{about.averaging}"
    return re.sub(r"[^\w.+-]", "_", name)


def score_path(folder: Path, name: str, about: Evaluation, class_names: Sequence[str]) -> Path:
    """Where the scores of a test belong, so that no other test's are overwritten.

    Args:
        folder: for score files.
        name: of the file without its ending, from `score_name`.
        about: the test.
        class_names: by label.

    Returns:
        The file of this name. Where it holds the scores of other weights, data, classes or
        protocol, or cannot be read, the first 8 digits of `identity` are added to the name.
    """
    digest = identity(about, class_names)
    path = folder / f"{name}{SUFFIX}"
    if path.exists() and read_identity(path) != digest:
        path = folder / f"{name}_{digest[:8]}{SUFFIX}"
    return path


def find_score_files(places: Iterable[str | Path]) -> list[Path]:
    """The score files of runs.

    Args:
        places: score files, and folders of runs, which stand for all score files in them.

    Returns:
        Each file once, those of a run by name.

    Raises:
        UserError: a folder without score files.
    """
    files: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            files.append(place)
            continue
        folder = place / SCORES if (place / SCORES).is_dir() else place
        found = sorted(folder.glob(f"*{SUFFIX}"), key=_by_numbers)
        if not found:
            raise UserError(
                f"{place} has no score files: looked for *{SUFFIX} in {folder}; test the run "
                f"first: python eval.py --workdir {place}"
            )
        files += found
    return list(dict.fromkeys(files))


def _by_numbers(path: Path) -> list[tuple[str, int]]:
    """Sorts names by the numbers in them: 8x1x1 before 16x1x1."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", path.name)]
