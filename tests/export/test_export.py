"""python -m aia_jax.export: the file runs without this project, and its card says the truth."""

import hashlib
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from aia_jax import create_model
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import exit_status
from aia_jax.export import __main__ as command
from aia_jax.export.model_card import card_facts
from aia_jax.models.preprocess import preprocessing
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE
from tests.helpers.tiny_variables import drawn

CLASSES = ("moving left", "moving right", "standing | still")
SHAPE = (4, 12, 12, 3)

# Stands before the script that a user runs: only jax, what jax needs, and flatbuffers can be
# imported.
ALONE = """
import importlib.metadata, sys
needs = {"jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum", "flatbuffers"}
names = importlib.metadata.packages_distributions()
blocked = ({name for name in names} | {"aia_jax"}) - needs
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not on this machine", name=name)
sys.meta_path.insert(0, Wall())
for name in ("aia_jax", "flax"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported")
"""


def random_clips(count: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def probabilities(model, variables, clips):
    logits = jax.jit(model.apply)(variables, preprocessing(model)(clips))
    return np.asarray(jax.nn.softmax(logits))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a run of one checkpoint, the data's manifest, eval.json, and the export."""
    folder = tmp_path_factory.mktemp("exported")
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data=str(folder / "data")))
    (folder / "data").mkdir()
    manifest = {
        "class_names": {"label": CLASSES},
        "splits": {"train": {"found": 18}},
        "options": {"--size": "16x16"},
    }
    (folder / "data" / "manifest.json").write_text(json.dumps(manifest))
    metrics = {"top1": 0.625, "loss": 1.25, "evaluated": 8, "expected": 9}
    overrides = ["model.attention=CinST->STinC", "model.temporal=tsm"]
    model, variables = make_run(folder / "run", recipe, overrides, CLASSES, metrics)
    (folder / "run" / "eval.json").write_text(
        json.dumps({"top1": 0.5, "step": 12, "split": "test"})
    )
    command.main(["--workdir", str(folder / "run"), "--out", str(folder / "model.bin")])
    return folder, model, variables


def test_the_cards_five_lines_run_with_jax_and_flatbuffers_alone(exported):
    folder, model, variables = exported
    lines = re.search(r"```python\n(.*?)```", (folder / "model.md").read_text("utf-8"), re.DOTALL)[
        1
    ]
    assert len(lines.splitlines()) == 5
    np.savez(folder / "clips.npz", one=random_clips(1), three=random_clips(3))
    more = """
given = np.load("clips.npz")
np.savez("found.npz", **{name: model(given[name]) for name in given})
"""
    environment = {
        "JAX_PLATFORMS": "cpu",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    script = [sys.executable, "-c", ALONE + lines + more]
    done = subprocess.run(
        script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in CLASSES
    found = np.load(folder / "found.npz")
    for name, count in (("one", 1), ("three", 3)):
        expected = probabilities(model, variables, random_clips(count))
        # The classes differ, or anything would agree.
        assert np.ptp(expected, axis=1).min() > 0.05
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_the_file_is_for_all_three_platforms_and_any_batch(exported):
    loaded = jax_export.deserialize((exported[0] / "model.bin").read_bytes())
    assert loaded.platforms == ("cpu", "cuda", "tpu") and loaded.nr_devices == 1
    assert (
        str(loaded.in_avals) == "(ShapedArray(uint8[b,4,12,12,3]),)"
        and str(loaded.out_avals) == "(ShapedArray(float32[b,3]),)"
    )
    with pytest.raises(ValueError, match="uint8"):
        loaded.call(np.zeros((1, *SHAPE), np.float32))


@pytest.mark.parametrize(("attention", "dtype"), [("C+ST", jnp.float32), ("none", jnp.bfloat16)])
def test_other_networks_export_too(attention, dtype):
    model = create_model(
        3, 4, attention=attention, stem="small", width=8, stage_sizes=(1,), dtype=dtype
    )
    variables = drawn(model, np.zeros((1, *SHAPE), np.float32))
    function = command.export_classifier(model, variables, SHAPE)
    clips = random_clips(2)
    expected = probabilities(model, variables, clips)
    np.testing.assert_allclose(
        jax.jit(function.call)(clips), expected, atol=1e-5 if dtype == jnp.float32 else 2e-2
    )


def test_the_card_says_what_the_file_is(exported):
    folder, model, _ = exported
    facts = json.loads((folder / "model.json").read_text("utf-8"))
    page = (folder / "model.md").read_text("utf-8")
    content = (folder / "model.bin").read_bytes()
    fingerprint = hashlib.sha256((folder / "data" / "manifest.json").read_bytes()).hexdigest()
    assert facts["file"] == {
        "name": "model.bin",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "platforms": ["cpu", "cuda", "tpu"],
    }
    assert facts["class_names"] == list(CLASSES) and facts["training"]["step"] == 12
    assert facts["input"]["shape"] == ["b", *SHAPE] and facts["output"]["shape"] == ["b", 3]
    assert facts["data"]["manifest_sha256"] == fingerprint and facts["data"]["videos"] == {
        "train": 18
    }
    assert facts["metrics"] == {
        "validation": {"top1": 0.625, "loss": 1.25, "evaluated": 8, "expected": 9},
        "test": {"top1": 0.5, "step": 12, "split": "test"},
    }
    assert facts["recipe"]["model"]["attention"] == "CinST->STinC"
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["network"] == model.describe() and f"{model.describe()}; 3 classes" in page
    for said in (
        fingerprint,
        facts["file"]["sha256"],
        "CinST->STinC",
        "top1 0.625",
        "standing | still",
        "18 train",
        "uint8 [b, 4, 12, 12, 3]",
    ):
        assert said in page, said


def test_a_card_claims_neither_other_data_nor_another_steps_test(exported):
    run = open_run(exported[0] / "run")
    (run.workdir / "eval.json").write_text(json.dumps({"top1": 0.5, "step": 8}))
    with run.config.unlocked():
        run.config.data.dir = "gone"
    facts = card_facts(run, "model.bin", b"", ("cpu",))
    assert (
        facts["data"] == {"name": "tiny", "manifest_sha256": None, "videos": {}}
        and facts["metrics"]["test"] is None
    )


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("model", "an ending other than"),
        ("model.json", "an ending other than"),
        ("none/model.bin", "there is no folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(exported, tmp_path, capsys, out, said):
    assert (
        exit_status(
            lambda: command.main(
                ["--workdir", str(exported[0] / "run"), "--out", str(tmp_path / out)]
            )
        )
        == 2
    )
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_without_flatbuffers_the_error_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert (
        exit_status(
            lambda: command.main(["--workdir", str(tmp_path), "--out", str(tmp_path / "model.bin")])
        )
        == 2
    )
    assert "flatbuffers" in capsys.readouterr().err
