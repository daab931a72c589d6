"""Score files come back as they were written; anything else is refused in one line."""

import json
import zipfile

import numpy as np
import pytest

from aia_jax.errors import UserError
from aia_jax.evaluation.ensembles import join
from aia_jax.evaluation.metrics import summarize
from aia_jax.evaluation.run_scores import (
    find_score_files,
    score_name,
    score_path,
    write_result,
)
from aia_jax.evaluation.score_files import read_scores, write_scores
from aia_jax.evaluation.scores import Scores, ScoresError, average_views
from tests.helpers.tiny_scores import make_evaluation, make_scores


def assert_equal(found: Scores, expected: Scores) -> None:
    assert found.about == expected.about
    assert found.class_names == expected.class_names
    for name in ("ids", "labels", "logits", "evaluated", "view_logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def with_views() -> Scores:
    views = np.random.default_rng(1).normal(size=(5, 6, 3)).astype(np.float32)
    usual = make_scores(logits=average_views(views, "logits"), crops=3, clips=2)
    names = ('A "quoted" [thing]', "Zubereitung äöü", "100% wrong\\n")
    return Scores(usual.about, usual.ids, usual.labels, names, usual.logits, usual.evaluated, views)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scores.npz"
    write_scores(path, make_scores(5, 3))
    return path


def rewrite(path, **changes) -> None:
    """Writes the file's arrays again with other ones in their place; None leaves one out."""
    with np.load(path) as old:
        arrays = {**{key: old[key] for key in old.files}, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def refusal(path) -> str:
    with pytest.raises(ScoresError) as refused:
        read_scores(path)
    line = str(refused.value)
    assert line.startswith(str(path)) and "\n" not in line
    return line


def test_scores_come_back_as_they_were_written(tmp_path):
    for number, scores in enumerate((make_scores(damaged=(2,)), with_views())):
        path = tmp_path / "new folder" / f"{number}.npz"
        write_scores(path, scores)
        assert_equal(read_scores(path), scores)


def test_an_ensemble_of_an_ensemble_comes_back(tmp_path):
    inner, _ = join({"a": make_scores(seed=1), "b": make_scores(seed=2)}, [1.0, 2.5])
    outer, _ = join({"ab": inner, "c": make_scores(seed=3, step=None)}, rule="probabilities")
    write_scores(tmp_path / "e.npz", outer)
    assert_equal(read_scores(tmp_path / "e.npz"), outer)


@pytest.mark.parametrize("key", ["about", "ids", "labels", "class_names", "logits", "evaluated"])
def test_a_missing_array_is_named(file, key):
    rewrite(file, **{key: None})
    assert f"lacks {key}" in refusal(file)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logits": np.zeros((5, 3))}, ["logits", "float64"]),
        ({"logits": np.full((5, 3), np.nan, np.float32)}, ["logits", "video000", "5 of 5"]),
        ({"ids": np.array(["a"] * 5)}, ["ids", "'a'", "twice"]),
        ({"labels": np.arange(5)}, ["labels", "video003 has 3", "0 to 2"]),
        ({"class_names": np.arange(3)}, ["class_names", "int64"]),
        ({"class_names": np.array([["a", "b", "c"]])}, ["class_names", "[1, 3]"]),
        ({"logits": np.array([[None] * 3] * 5)}, ["logits", "Object arrays"]),
        ({"about": np.array("{")}, ["about", "JSON"]),
        ({"about": np.array("[" * 100_000)}, ["about", "JSON"]),
        ({"about": np.array("3")}, ["about", "format 3", "expected 1"]),
        ({"about": np.array('{"format": 2}')}, ["about", "format 2", "expected 1"]),
        ({"about": np.array('{"format": 1}')}, ["about", "kind None", "evaluation, ensemble"]),
        ({"about": np.zeros(3)}, ["about", "float64"]),
    ],
)
def test_wrong_content_is_refused_by_key(file, changes, words):
    rewrite(file, **changes)
    line = refusal(file)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("frames", "8", "frames is '8', expected int"),
        ("frames", True, "frames is True"),
        ("frames", 0, "frames is 0"),
        ("step", 1.5, "step is 1.5, expected int | None"),
        ("model", [], "model is []"),
        ("overrides", [1], "overrides is [1]"),
        ("averaging", "sum", "averaging is 'sum'"),
        ("weights", None, "weights is missing"),
    ],
)
def test_a_wrong_field_of_the_description_is_named(file, field, value, words):
    with np.load(file) as arrays:
        about = json.loads(str(arrays["about"]))
    about[field] = value
    if value is None:
        del about[field]
    rewrite(file, about=np.array(json.dumps(about)))
    assert words in refusal(file)


def test_files_that_are_no_score_files_are_refused(tmp_path, file):
    assert "does not exist" in refusal(tmp_path / "missing.npz")
    assert f"is a folder, expected an .npz file; name one of {file}" in refusal(tmp_path)
    for name, content in {"empty": b"", "text": b"ids,labels\n", "zip": b"PK\x03\x04 no"}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        assert "no .npz" in refusal(path)
    file.with_suffix(".json").write_text("{}")  # what lies beside a score file
    assert f"no .npz file; the scores are in {file}" in refusal(file.with_suffix(".json"))
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "one array" in refusal(tmp_path / "array.npy")
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3), y=np.zeros(2))
    line = refusal(tmp_path / "foreign.npz")
    assert "it has x, y" in line and "expected about, ids" in line
    with zipfile.ZipFile(tmp_path / "notes.npz", "w") as archive:
        archive.writestr("about", "hello")
    refusal(tmp_path / "notes.npz")


def test_no_cut_and_no_flipped_byte_gives_other_scores(tmp_path, file):
    """Either the line that names the file, or the scores as they were."""
    content, expected = file.read_bytes(), read_scores(file)
    damaged = tmp_path / "damaged.npz"
    for length in range(0, len(content), 397):
        damaged.write_bytes(content[:length])
        refusal(damaged)
    harmless = 0
    for position in range(0, len(content), 19):
        changed = bytearray(content)
        changed[position] ^= 0x55
        damaged.write_bytes(changed)
        try:
            assert_equal(read_scores(damaged), expected)
            harmless += 1
        except ScoresError as error:
            assert "\n" not in str(error)
    assert harmless < len(content) / 57  # names and times in the zip's own tables


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.+\); give another place"):
        write_scores(tmp_path / "file" / "scores.npz", make_scores())


def test_the_result_has_numbers_and_scores_under_one_name(tmp_path):
    scores = make_scores(damaged=(0, 3))
    path = score_path(tmp_path, score_name(scores.about), scores.about, scores.class_names)
    assert path.name == "validation_8x1x1_120.npz"
    result = write_result(path, scores, {"notes": ["two"], "top1": "of the report"})
    assert result["notes"] == ["two"] and result["top1"] == summarize(scores).top1
    assert result == json.loads(path.with_suffix(".json").read_text())
    assert result["evaluated"] == 18 and result["expected"] == 20
    assert {"top1", "top5", "loss", "mean_class_accuracy"} <= set(result)
    assert result["about"]["weights"] == scores.about.weights
    assert_equal(read_scores(path), scores)


def test_nothing_is_overwritten_by_another_test(tmp_path):
    names = ("a", "b")

    def name(**fields) -> str:
        about = make_evaluation(**fields)
        return score_path(tmp_path, score_name(about, usual_crop=224), about, names).name

    usual = name()
    assert usual == "validation_8x1x1_120.npz"
    assert name(crop_size=256) == "validation_8x1x1_120_crop256.npz"
    assert name(averaging="probabilities") == "validation_8x1x1_120_probabilities.npz"
    assert name(step=None) == "validation_8x1x1_weights.npz"
    assert name(split="test/a b") == "test_a_b_8x1x1_120.npz"
    write_scores(tmp_path / usual, make_scores(classes=2, weights=make_evaluation().weights))
    names = ("Class 0", "Class 1")
    assert name() == usual  # the same test again
    others = {name(weights="a2"), name(data="d2"), name(resize="short256")}
    assert len(others) == 3 and usual not in others
    (tmp_path / usual).write_bytes(b"damaged")
    assert name() != usual


def test_runs_stand_for_their_score_files(tmp_path):
    for name in ("validation_16x1x1_9", "validation_8x1x1_120", "validation_8x1x1_9"):
        write_scores(tmp_path / "run" / "scores" / f"{name}.npz", make_scores())
    own = tmp_path / "run" / "scores" / "validation_16x1x1_9.npz"
    found = find_score_files([own, tmp_path / "run"])
    assert [path.stem for path in found] == [
        "validation_16x1x1_9",
        "validation_8x1x1_9",
        "validation_8x1x1_120",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no score files: .*eval\.py --workdir"):
        find_score_files([tmp_path / "empty"])
