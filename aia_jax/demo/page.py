"""The demo's page to look at: the report on the last test of each of its runs."""

from collections.abc import Sequence
from pathlib import Path

from aia_jax.evaluation.report.page import write_report
from aia_jax.evaluation.run_scores import find_score_files
from aia_jax.evaluation.score_files import read_scores


def write_page(path: Path, title: str, runs: Sequence[Path]) -> None:
    """Writes the page.

    Args:
        path: of the page; an older file is replaced when this one is whole.
        title: of the page.
        runs: folders of runs, in the order in which they are shown.

    Raises:
        UserError: a run has no score file, or the page cannot be written.
    """
    files = {}
    for run in runs:
        # A run that was trained on has scores of an earlier step too.
        last = max(find_score_files([run]), key=lambda file: file.stat().st_mtime_ns)
        files[str(last)] = read_scores(last)
    write_report(files, path, title=title)
