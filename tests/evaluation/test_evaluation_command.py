"""python -m aia_jax.evaluation: what it prints, what it writes, and one line for wrong input."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from aia_jax.errors import exit_status
from aia_jax.evaluation.__main__ import main
from aia_jax.evaluation.score_files import read_scores, write_scores
from aia_jax.evaluation.scores import Ensemble
from tests.helpers.paths import ROOT
from tests.helpers.tiny_scores import make_scores


@pytest.fixture
def files(tmp_path):
    """8, 12 and 16 frames, a verb and a noun, in a run's folder."""
    for frames in (8, 12, 16):
        scores = make_scores(40, 7, seed=frames, frames=frames, damaged=(frames,))
        write_scores(tmp_path / "run" / "scores" / f"{frames}.npz", scores)
    for number, label in enumerate(("verb", "noun")):
        scores = make_scores(30, 4 + number, seed=number, label=label, dataset="epic55")
        write_scores(tmp_path / f"{label}.npz", scores)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = exit_status(lambda: main([str(argument) for argument in arguments]))
    output, errors = capsys.readouterr()
    return status, output, errors


def paths(files) -> list:
    return [files / "run" / "scores" / f"{frames}.npz" for frames in (8, 12, 16)]


def test_metrics_are_printed_and_given_as_json(files, capsys):
    path = paths(files)[0]
    status, output, _ = run(capsys, "metrics", path, "--resamples", 50)
    assert status == 0
    for words in ("top-1", "mean-class", "39 of 40 videos", "Most confused pairs"):
        assert words in output
    status, output, _ = run(capsys, "metrics", path, "--resamples", 50, "--json")
    found = json.loads(output)
    assert status == 0 and found["evaluated"] == 39 and len(found["per_class"]) == 7
    low, high = found["intervals"]["top1"]
    assert low <= found["top1"] <= high and sum(found["calibration"]["videos"]) == 39


def test_names_with_markup_are_printed_as_they_are(tmp_path, capsys):
    names = ("Moving [something] up", ":smile: [bold]x[/bold]", "[/]")
    scores = dataclasses.replace(make_scores(9, 3), class_names=names)
    write_scores(tmp_path / "a.npz", scores)
    status, output, _ = run(capsys, "metrics", tmp_path / "a.npz", "--resamples", 9)
    assert status == 0 and all(name in output for name in names)


def test_two_models_are_compared(files, capsys):
    first, second, _ = paths(files)
    status, output, errors = run(capsys, "compare", first, second)
    assert status == 0 and "McNemar" in output and "Right in B only" in output
    assert errors.count("note: ") == 2
    found = json.loads(run(capsys, "compare", first, second, "--json")[1])
    counts = [found[key] for key in ("both", "only_first", "only_second", "neither")]
    assert sum(counts) == found["videos"] == 38
    assert len(found["gained"]) == found["only_second"]
    assert found["second"]["about"]["frames"] == 12


def test_an_ensemble_is_printed_and_written(files, capsys):
    out = files / "joined.npz"
    arguments = ("ensemble", *paths(files), "--weights", "1", "2", "1", "--out", out)
    status, output, _ = run(capsys, *arguments)
    assert status == 0 and "(8+12+16)×1×1" in output and f"wrote {out}" in output
    joined = read_scores(out)
    assert isinstance(joined.about, Ensemble) and joined.about.weights == (1, 2, 1)
    assert run(capsys, *arguments)[0] == 0  # an ensemble may be replaced
    status, output, _ = run(capsys, "ensemble", out, paths(files)[0], "--json")
    assert json.loads(output)["members"][0]["file"] == str(out)


def test_actions_are_printed(files, capsys):
    status, output, _ = run(capsys, "actions", files / "verb.npz", files / "noun.npz")
    assert status == 0 and "action" in output and "30 of 30 segments" in output
    output = run(capsys, "actions", files / "verb.npz", files / "noun.npz", "--json")[1]
    assert json.loads(output)["verb"]["evaluated"] == 30


def test_tables_take_runs_and_files(files, capsys):
    status, output, _ = run(capsys, "tables", files / "run", files / "verb.npz")
    assert status == 0 and output.startswith("| Method") and "epic55 verb: Top-1" in output
    assert output.count("AIA(TSM)") == 3  # 8 frames of both data sets share a row
    assert "tabular" in run(capsys, "tables", files / "run", "--latex", "--form", "I")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["metrics", "missing.npz"], "missing.npz does not exist"),
        (["metrics", "."], "is a folder, expected an .npz file"),
        (["metrics", "text.npz"], "text.npz is no .npz file"),
        (["metrics", "cut.npz"], "cut.npz is damaged, or no .npz"),
        (["compare", "verb.npz", "verb.npz"], "verb.npz is given twice"),
        (["compare", "verb.npz", "noun.npz"], "noun.npz has other classes than verb.npz"),
        (["ensemble", "verb.npz"], "two score files or more, found 1"),
        (["ensemble", "verb.npz", "noun.npz", "--weights", "1"], "1 weights for 2 score files"),
        (["ensemble", "verb.npz", "run/scores/8.npz"], "8.npz has other classes"),
        (["ensemble", "verb.npz", "noun.npz", "--out", "x.txt"], "must end with .npz"),
        (["ensemble", "verb.npz", "noun.npz", "--out", "no/x.npz"], "there is no folder no"),
        (["ensemble", "verb.npz", "noun.npz", "--out", "noun.npz"], "one of the files to join"),
        (["ensemble", "verb.npz", "noun.npz", "--out", "run/scores/8.npz"], "would be lost"),
        (["ensemble", "verb.npz", "noun.npz", "--out", "text.npz"], "text.npz is no .npz file"),
        (["actions", "noun.npz", "verb.npz"], "other way round"),
        (["tables", "empty"], "empty has no score files"),
        (["tables", "foreign.npz"], "it has x, expected about, ids"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(files, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(files)
    (files / "empty").mkdir()
    (files / "text.npz").write_text("no scores\n")
    (files / "cut.npz").write_bytes((files / "verb.npz").read_bytes()[:-300])
    np.savez(files / "foreign.npz", x=np.zeros(3))
    before = sorted(path for path in files.rglob("*"))
    status, output, errors = run(capsys, *arguments)
    assert status == 2 and not output
    assert errors.startswith("error: ") and errors.count("\n") == 1 and words in errors
    assert sorted(path for path in files.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["metrics"], ["metrics", "a.npz", "--bins", "0"], ["tables", "a", "--form", "3"]],
)
def test_a_wrong_command_line_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "usage:" in capsys.readouterr().err


def test_the_command_starts_without_jax_and_tensorflow():
    """Scores need neither, and both are seconds of its start."""
    code = (
        "import sys, aia_jax.evaluation.__main__; "
        "print(sorted({'jax', 'flax', 'tensorflow', 'sklearn', 'scipy.stats'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout == "[]\n", found.stderr


@pytest.mark.parametrize(
    "command", ["metrics", "compare", "ensemble", "actions", "tables", "report"]
)
def test_help_explains_every_command(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    output = capsys.readouterr().out
    assert end.value.code == 0 and "%%" not in output and "npz" in output.lower()
