"""The demo's page: the last test of each run, under the demo's title."""

import os

import pytest

from aia_jax.demo.page import write_page
from aia_jax.errors import UserError
from aia_jax.evaluation.score_files import write_scores
from tests.helpers.tiny_scores import make_scores


def test_the_page_has_the_last_test_of_each_run(tmp_path):
    runs = [tmp_path / name for name in ("tsn", "aia")]
    for number, run in enumerate(runs):
        for step, age in ((20, 0), (10, 100), (30, 200)):
            path = run / "scores" / f"validation_8x1x1_{step}.npz"
            write_scores(path, make_scores(seed=step, network=f"Net {number}", step=step))
            time = path.stat().st_mtime - age
            os.utime(path, (time, time))
    path = tmp_path / "report.html"
    write_page(path, "Is it <this>?", runs)
    page = path.read_text()
    assert "<h1>Is it &lt;this&gt;?</h1>" in page and "2 models" in page
    for number in range(2):
        assert f"Net {number}" in page
    assert page.count("validation_8x1x1_20.npz") == 2 and "validation_8x1x1_10" not in page


def test_a_run_without_scores_is_named(tmp_path):
    write_scores(tmp_path / "tsn" / "scores" / "a.npz", make_scores())
    (tmp_path / "aia").mkdir()
    with pytest.raises(UserError, match="aia has no score files"):
        write_page(tmp_path / "report.html", "", [tmp_path / "tsn", tmp_path / "aia"])
    assert not (tmp_path / "report.html").exists()
