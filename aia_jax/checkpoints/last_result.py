"""What eval.py has measured of a run, or of weights, and left in its folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT_FILE = "eval.json"  # in a run's folder: what eval.py measured last
SCORES = "scores"  # folder in it: of each test a score file, and its result with `.json`


def last_result(workdir: Path, step: int | None) -> dict[str, Any] | None:
    """The last result of eval.py in a run's folder, if it is of this step; else None."""
    report = _read(workdir / RESULT_FILE)
    return report if report and report.get("step") == step else None


def all_results(workdir: Path, weights: str) -> Iterator[dict[str, Any]]:
    """Every result in a run's folder that is of these very weights, by the name of its file.

    The last one comes first, and may be there twice.

    Args:
        workdir: the run's folder.
        weights: the fingerprint of the weights (`TrainedRun.weights_fingerprint`).
    """
    for path in (workdir / RESULT_FILE, *sorted((workdir / SCORES).glob("*.json"))):
        report = _read(path)
        if report and report.get("weights") == weights and "top1" in report:
            yield report


def _read(path: Path) -> dict[str, Any] | None:
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None
