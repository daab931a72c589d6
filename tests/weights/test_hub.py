"""A folder in the form of model hubs: what it says, and that it reads back as it was."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import yaml

import aia_jax
from aia_jax import config as configs
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError, exit_status
from aia_jax.weights import __main__ as command
from aia_jax.weights.files import describe_file, is_weights_folder, save_folder
from aia_jax.weights.hub import read_hub_folder, write_hub_folder
from aia_jax.weights.init_from import check_init_from, load_start
from aia_jax.weights.open import open_trained, open_weights
from aia_jax.weights.source_cards import CARDS
from aia_jax.weights.source_choice import card_of_folder
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE

NAMES = ("up", 'down: "a"', "still | ßöl")
METRICS = {"top1": 0.625, "top5": 1.0, "loss": 1.2, "evaluated": 8, "expected": 9}
RESULT = {
    **METRICS,
    "top1": 0.5,
    "top5": 0.75,
    "evaluated": 9,
    "split": "test",
    "clips": 2,
    "crops": 3,
    "num_frames": 8,
    "crop": 12,
    "averaging": "logits",
    "overrides": {"data.num_frames": {"trained": 4, "tested": 8}, "data.dir": {}},
    "about": {"dataset": "other"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with two tests beside it, and its hub folder."""
    folder = tmp_path_factory.mktemp("hub")
    recipe = folder / "tiny.py"
    recipe.write_text(RECIPE.format(data=str(folder)))
    overrides = ["data.resize=18,24", "model.temporal=tsm", "data.sampling=uniform"]
    make_run(folder / "run", recipe, overrides, NAMES, METRICS)
    run = open_run(folder / "run")
    for name, more in (
        ("eval.json", {}),
        ("scores/same.json", {}),
        ("scores/centre.json", {"clips": 1, "crops": 1, "top1": 0.4, "overrides": {}}),
        ("scores/of_other_weights.json", {"weights": "0", "top1": 0.9}),
        ("scores/damaged.json", None),
    ):
        path = folder / "run" / name
        path.parent.mkdir(exist_ok=True)
        content = {**RESULT, "weights": run.weights_fingerprint(), **(more or {})}
        path.write_text("{" if more is None else json.dumps(content))
    command.main([str(folder / "run"), "--hub", str(folder / "hub"), "--license", "cc-by-4.0"])
    return folder, run


@pytest.fixture
def hub(made, tmp_path):
    """A copy of the hub folder, to damage."""
    for path in (made[0] / "hub").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(folder, **fields) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=1))


def header(folder) -> dict:
    return yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])


def test_a_run_reads_back_bit_for_bit(made):
    folder, run = made
    assert {path.name for path in (folder / "hub").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    for found in (read_hub_folder(folder / "hub"), open_trained(folder / "hub")):
        jax.tree.map(np.testing.assert_array_equal, dict(found.variables), dict(run.variables))
        assert found.model == run.model and found.class_names == NAMES and found.names_known
        for field in ("num_frames", "crop", "resize", "sampling"):
            assert found.config.data[field] == run.config.data[field]
        assert found.step is None and not found.notes
    config = json.loads((folder / "hub" / "config.json").read_text())
    assert config["id2label"]["1"] == NAMES[1] and config["label2id"][NAMES[2]] == 2
    assert config["pixels"]["mean"] == [0.485, 0.456, 0.406]
    assert config["versions"]["jax"] == jax.__version__
    assert str(folder) not in json.dumps(config)  # paths of this machine are nobody's business


def test_the_page_says_what_was_measured_and_nothing_else(made):
    folder, run = made
    page, facts = (folder / "hub" / "README.md").read_text("utf-8"), header(folder / "hub")
    assert facts["license"] == "cc-by-4.0" and facts["library_name"] == "aia_jax"
    assert facts["pipeline_tag"] == "video-classification" and "tsm" in facts["tags"]
    (index,) = facts["model-index"]
    found = [
        (one["dataset"]["name"], one["dataset"]["split"], [m["value"] for m in one["metrics"]])
        for one in index["results"]
    ]
    assert found == [
        ("tiny", "validation", [62.5, 100.0]),
        ("other", "test", [50.0, 75.0]),
        ("other", "test", [40.0, 75.0]),
    ]
    names = [one["metrics"][0]["name"] for one in index["results"]]
    assert names[0] == "top-1, percent: validation while training, step 12, 8 of 9 videos"
    assert names[1].endswith(
        "eval.py, 2x3 views of 8 frames, crop 12, logits averaged, data.num_frames 8 instead of 4"
    )
    for said in (run.model.describe(), "18x24", "2. still | ßöl", "recipe `tiny`: step 12"):
        assert said in page, said
    assert str(folder) not in page


def test_a_run_without_tests_or_license_claims_neither(made, tmp_path, capsys):
    (tmp_path / "tiny.py").write_text(RECIPE.format(data="nowhere"))
    make_run(tmp_path / "run", tmp_path / "tiny.py", [], NAMES, {})
    command.main([str(tmp_path / "run"), "--hub", str(tmp_path / "hub")])
    assert "without --license" in capsys.readouterr().out
    assert header(tmp_path / "hub").keys() == {"library_name", "pipeline_tag", "tags"}
    page = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert "None were measured" in page and "has not said under which license" in page


def test_converted_weights_keep_their_source_apart_from_results(made, tmp_path, monkeypatch):
    run, card = made[1], CARDS["mmaction2_tsm_r50_8f_k400"]
    size = {f: run.config.model[f] for f in ("width", "stage_sizes", "stem")}
    card = dataclasses.replace(card, model={**card.model, **size})
    monkeypatch.setitem(CARDS, card.name, card)
    data = {field: run.config.data[field] for field in ("num_frames", "crop", "sampling")}
    description = {
        "source": {"file": "/home/me/tsm.pth", "sha256": "12ab"},
        "model": run.config.model.to_dict(),
        "shown": {"temporal": "tsm"},
        "data": data | {"resize": "short16"},
        "card": card.as_json(),
    }
    save_folder(tmp_path / "net", run.variables, description)
    write_hub_folder(tmp_path / "hub", open_weights(tmp_path / "net"))
    assert "model-index" not in header(tmp_path / "hub")
    page = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert "not measured here" in page and "top-1 73.2%" in page and "kinetics400" in page
    assert "`tsm.pth`, SHA-256 12ab" in page and "/home" not in page
    assert "which nobody has named" in page
    back = read_hub_folder(tmp_path / "hub")
    assert back.config.data.resize == "short16" and not back.names_known
    assert card_of_folder(tmp_path / "hub") == card
    with pytest.raises(UserError, match="it is a folder of weights"):
        write_hub_folder(tmp_path / "net", back)


def test_all_that_takes_weights_takes_the_folder(made, tmp_path):
    folder, run = made
    config = configs.from_json(json.dumps({"init_from": str(folder / "hub")}))
    check_init_from(config, "recipe")
    fresh = jax.tree.map(np.zeros_like, dict(run.variables))
    started, report = load_start(folder / "hub", fresh, run.model, NAMES)
    assert not report.fresh and not report.notes
    jax.tree.map(np.testing.assert_array_equal, started, dict(run.variables))
    _, report = load_start(folder / "hub", fresh, run.model.clone(temporal="tsn"), NAMES)
    assert "trained with model.temporal=tsm" in report.notes[0]
    with pytest.raises(UserError, match=r"add --config\.model\.fold_div=8"):
        load_start(folder / "hub", fresh, run.model.clone(fold_div=4), NAMES)
    assert describe_file(folder / "hub" / "model.safetensors")["class_names"] == list(NAMES)
    command.main([str(folder / "hub"), "--hub", str(tmp_path / "again")])
    page = (tmp_path / "again" / "README.md").read_text("utf-8")
    assert "3 classes of tiny" in page and "recipe `tiny`: step 12" in page
    assert aia_jax.load(folder / "hub").class_names == NAMES


def flip(folder) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "model.safetensors is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is not a folder of weights"),
        (lambda folder: change(folder, format=2), "is of format 2, and this version reads 1"),
        (lambda folder: change(folder, id2label={"0": "up", "2": "down"}), "id2label is {'0'"),
        (lambda folder: change(folder, id2label=list(NAMES)), "id2label is ['up'"),
        (lambda folder: change(folder, id2label={"0": "up"}), "class_names has 1 names"),
        (lambda folder: change(folder, model={"name": "vgg"}), "model.name: found 'vgg'"),
        (lambda folder: change(folder, training="long"), "training is 'long', expected an object"),
        (lambda folder: change(folder, model={"stage_sizes": [10**9]}), "stage_sizes"),
        (
            lambda folder: (folder / "config.json").write_text('{"library_name": "aia_jax", '),
            "config.json is damaged (line 1: not JSON",
        ),
        (lambda folder: change(folder, library_name="timm"), "with library_name aia_jax"),
        (lambda folder: (folder / "config.json").unlink(), "with library_name aia_jax"),
    ],
)
def test_a_damaged_folder_is_one_line(hub, damage, said):
    damage(hub)
    with pytest.raises(UserError) as error:
        read_hub_folder(hub)
    assert said in str(error.value) and str(hub) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_folder_of_another_library_is_none_of_ours(hub):
    change(hub, library_name="timm")
    assert not is_weights_folder(hub)


def test_a_folder_that_cannot_be_written_is_one_line(made, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = [str(made[0] / "run"), "--hub", str(tmp_path / "file" / "hub")]
    assert exit_status(lambda: command.main(arguments)) == 2
    assert "cannot be written" in capsys.readouterr().err
