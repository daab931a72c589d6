"""From a file to the publisher's test: --source, --protocol published, and their number beside."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from aia_jax import config as configs
from aia_jax.data.pipeline import eval_batches
from aia_jax.data.views import Views
from aia_jax.evaluation.score_files import read_scores
from aia_jax.evaluation.scores import average_views
from aia_jax.models import model_from_config
from aia_jax.models.preprocess import preprocessing
from aia_jax.prediction.predict import probabilities_of_views
from aia_jax.shards.reader import open_split
from aia_jax.weights import to_torch
from aia_jax.weights.open import open_weights
from aia_jax.weights.source_cards import CARDS, PublishedTest, SourceCard
from tests.helpers.tiny_checkpoint import perturbed
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import make_recipe, refused, run_here
from tests.helpers.tiny_variables import drawn

ZOO = SourceCard(
    name="zoo_tsm_tiny",
    publisher="the tiny zoo",
    model={"name": "resnet", "temporal": "tsm", "shift_blocks": "tsm", "attention": "none"}
    | {"stem": "small", "width": 8, "stage_sizes": (1,)},
    dataset="tiny",
    num_classes=3,
    resize="short16",
    sampling="mmaction2",
    tests=(
        PublishedTest(Views(1, 10), 12, 5, "probabilities", 41.5, 88.25),
        PublishedTest(Views(2, 3), 16, 4),
    ),
    num_frames=4,
    crop=12,
    file="tsm_tiny_rgb",
    note="the tiny zoo resizes otherwise",
)
PUBLISHED = "the tiny zoo report top-1 41.5%, top-5 88.25% for this protocol (their number"


@pytest.fixture(scope="module", autouse=True)
def tiny_zoo():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CARDS, ZOO.name, ZOO)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of weights of the zoo, which the command has converted: its path."""
    folder = tmp_path_factory.mktemp("zoo")
    recipe = make_recipe(folder, size=(16, 23))
    fields = ["model.attention=none", "model.temporal=tsm", "model.shift_blocks=tsm"]
    model = model_from_config(configs.load(recipe, [*fields, "data.num_classes=3"]))
    variables = perturbed(drawn(model, np.zeros((1, 4, 12, 12, 3), np.float32)))
    head = variables["params"]["head"]
    head["kernel"] = head["kernel"] * np.float32(0.2)
    safetensors.numpy.save_file(to_torch(variables, model), folder / "tsm_tiny_rgb.safetensors")
    done = convert(folder, "tsm_tiny_rgb.safetensors", "weights", "--source", ZOO.name)
    assert done.returncode == 0, done.stderr
    assert f"source: {ZOO.name}, the tiny zoo" in done.stdout
    assert "model.temporal=tsm (recipe: tsn)" in done.stdout
    assert "--config.model.temporal=tsm --config.model.shift_blocks=tsm" in done.stdout
    return folder / "weights"


def convert(folder: Path, file: str, out: str, *arguments: str) -> subprocess.CompletedProcess:
    paths = ["--torch", str(folder / file), "--out", str(folder / out)]
    recipe = folder / "tiny.py"
    return run_here("convert_torch_weights.py", recipe, None, *paths, *arguments)


def evaluate(
    weights: Path, *arguments: str, data: Path | None = None
) -> subprocess.CompletedProcess:
    given = ["--weights", str(weights), "--data", str(data or weights.parent / "data")]
    given += ["--config.data.workers=0", "--config.eval.batch_size=20"]
    return run_here("eval.py", None, None, *given, *arguments)


def test_the_folder_keeps_what_the_card_says(made):
    kept = json.loads((made / "weights.json").read_text())
    assert kept["data"] == {
        "num_frames": 4, "crop": 12, "resize": "short16", "sampling": "mmaction2",
        "label_kind": "single",
    }  # fmt: skip
    assert (kept["model"]["temporal"], kept["model"]["shift_blocks"]) == ("tsm", "tsm")
    assert kept["card"]["name"] == ZOO.name and kept["card"]["tests"][0]["top1"] == 41.5
    run = open_weights(made)
    assert run.config.data.sampling == "mmaction2" and not run.notes


def test_the_published_test_is_made_and_the_published_number_stands_beside(made, tmp_path):
    done = evaluate(made, "--protocol", "published", "--view-scores", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "weights, validation, center, 1x10 views, probabilities averaged" in done.stdout
    assert "data.num_frames=5 instead of 4" in done.stdout and PUBLISHED in done.stdout
    assert "note: the tiny zoo resizes otherwise" in done.stdout
    assert "note: half of the 1x10 views are mirrored, and 2 classes name a side" in done.stdout

    run = open_weights(made)
    reader = open_split(made.parent / "data", "validation")
    rule = {"resize": "short16", "sampling": "mmaction2"}
    (batch,) = eval_batches(reader, 9, 5, 12, Views(1, 10), prefetch=0, **rule)
    clips = preprocessing(run.model)(batch["clips"].reshape(-1, 5, 12, 12, 3))
    logits = np.asarray(run.model.apply(run.variables, clips, train=False)).reshape(9, 10, 3)
    scores = read_scores(tmp_path / "scores" / "validation_5x10x1_weights_probabilities.npz")
    np.testing.assert_allclose(scores.view_logits, logits, rtol=1e-4, atol=1e-4)
    exponents = np.exp(logits.astype(np.float64))
    probabilities = (exponents / exponents.sum(-1, keepdims=True)).mean(1)
    np.testing.assert_allclose(np.exp(scores.logits), probabilities, rtol=2e-4, atol=1e-6)
    assert np.ptp(logits, axis=1).max() > 0.01  # views differ
    result = json.loads((tmp_path / "eval.json").read_text())
    assert result["published"] == {
        "top1": 0.415, "top5": 0.8825, "by": "the tiny zoo", "source": ZOO.name, "note": ZOO.note
    }  # fmt: skip
    assert (result["crops"], result["num_frames"], result["averaging"]) == (10, 5, "probabilities")

    # The same test by its flags: the same scores, and the number beside it.
    flags = ["--views", "1x10", "--average", "probabilities", "--config.data.num_frames=5"]
    done = evaluate(made, *flags, "--out", str(tmp_path / "flags"))
    assert PUBLISHED in done.stdout and "resizes otherwise" not in done.stdout, done.stderr
    other = read_scores(tmp_path / "flags" / "scores" / scores_name(scores))
    np.testing.assert_array_equal(other.logits, scores.logits)


def scores_name(scores) -> str:
    about = scores.about
    return f"validation_{about.frames}x{about.crops}x{about.clips}_weights_probabilities.npz"


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        (["--views", "1x5", "--average", "probabilities", "--config.data.num_frames=5"], "tiny"),
        (["--views", "1x10", "--config.data.num_frames=5"], "tiny"),
        (["--views", "1x10", "--average", "probabilities"], "tiny"),
        (["--views", "2x3", "--crop", "16"], "tiny"),  # the zoo's, but it gives no number
        (["--protocol", "published", "--split", "train"], "tiny"),
        (["--protocol", "published"], "another"),
    ],
)
def test_another_test_has_no_published_number(made, tmp_path, arguments, data):
    folder = made.parent / "data"
    if data != "tiny":
        folder = make_dataset(tmp_path / "data", frames=6, size=(16, 23), name=data)
    done = evaluate(made, *arguments, "--out", str(tmp_path), data=folder)
    assert done.returncode == 0, done.stderr
    assert "report top-1" not in done.stdout
    assert json.loads((tmp_path / "eval.json").read_text())["published"] is None
    if "--protocol" in arguments:
        split = "train" if "train" in arguments else "validation"
        said = f"report a number for tiny validation, these data are {data} {split}"
        assert said in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "published", "--views", "1x1"], ["--views", "leave one of them out"]),
        (["--protocol", "published", "--average", "logits"], ["--average", "1x10 views of 12"]),
        (
            ["--protocol", "published", "--config.data.num_frames=8", "--crop", "12"],
            ["--crop, --config.data.num_frames", "mean of probabilities"],
        ),
        (["--protocol", "paper"], ["--protocol paper", "the only one is published"]),
    ],
)
def test_what_the_published_protocol_leaves_no_room_for(made, tmp_path, arguments, words):
    refused(evaluate(made, *arguments, "--out", str(tmp_path / "out")), *words)
    assert not (tmp_path / "out").exists()


def test_runs_and_weights_of_no_known_source_have_no_published_protocol(made, tmp_path):
    run = run_here("eval.py", None, tmp_path / "run", "--protocol", "published")
    refused(run, "--weights DIR", "a run of this project has no other protocol than its recipe's")
    bare = tmp_path / "bare"
    shutil.copytree(made, bare)
    content = json.loads((bare / "weights.json").read_text())
    (bare / "weights.json").write_text(json.dumps(content | {"card": None}))
    done = evaluate(bare, "--protocol", "published", data=made.parent / "data")
    refused(done, str(bare), "does not say where its weights come from", "--source NAME")
    (bare / "weights.json").write_text(json.dumps(content | {"card": {"name": "gone"}}))
    refused(evaluate(bare, data=made.parent / "data"), "'gone'", "--source NAME")


def test_the_config_in_a_file_says_its_source_and_its_name_only_offers_one(made, tmp_path):
    folder = made.parent
    arrays = safetensors.numpy.load_file(folder / "tsm_tiny_rgb.safetensors")
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    meta = {"cfg": "x = 1\nwork_dir = './work_dirs/tsm_tiny_rgb'\n", "epoch": 50}
    torch.save({"meta": meta, "state_dict": tensors}, folder / "download.pth")
    done = convert(folder, "download.pth", "said")
    assert done.returncode == 0, done.stderr
    assert f"note: the config in the file is that of the source {ZOO.name}" in done.stdout
    assert json.loads((folder / "said" / "weights.json").read_text())["card"] == ZOO.as_json()

    done = convert(folder, "tsm_tiny_rgb.safetensors", "named", "--config.model.temporal=tsm")
    assert f"if it is, --source {ZOO.name} says how clips are made" in done.stdout, done.stderr
    assert json.loads((folder / "named" / "weights.json").read_text())["card"] is None
    done = convert(folder, "tsm_tiny_rgb.safetensors", "other", "--config.data.num_classes=5")
    assert "--config.data.num_classes=3 keeps it" in done.stdout, done.stderr
    # The weights of a converted folder keep its card.
    done = convert(folder, "weights/weights.safetensors", "again")
    assert f"source: {ZOO.name}" in done.stdout, done.stderr


def test_a_source_that_the_file_contradicts_is_refused(made, monkeypatch):
    folder, file = made.parent, "tsm_tiny_rgb.safetensors"
    refused(convert(folder, file, "x", "--source", "zoo_tsm_tin"), "did you mean zoo_tsm_tiny?")
    refused(
        convert(folder, file, "x", "--source", "h2cn_8f_k400"), "the network resnet, not h2cn", file
    )
    refused(convert(folder, file, "x", "--source", "aia_8f_ssv1"), "num_classes 3, not 174", file)
    for name, model in (("tsn", {"temporal": "tsn"}), ("vit", {"name": "vit"})):
        card = dataclasses.replace(ZOO, name=name, model={**ZOO.model, **model})
        monkeypatch.setitem(CARDS, name, card)
    refused(convert(folder, file, "x", "--source", "tsn"), "temporal tsm, not tsn")
    refused(convert(folder, file, "x", "--source", "vit"), "the network resnet, not vit")
    refused(convert(folder, file, "x", "--source", ""), "there is no source ''")
    wide = dataclasses.replace(ZOO, name="wide", model={**ZOO.model, "width": 64})
    monkeypatch.setitem(CARDS, "wide", wide)
    refused(convert(folder, file, "x", "--source", "wide"), "width 8, not 64")
    # Its names are of TSM's authors, and the file's own config says another card.
    program = dataclasses.replace(ZOO, name="other", program="mmaction2")
    monkeypatch.setitem(CARDS, "other", program)
    arrays = safetensors.numpy.load_file(folder / file)
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    meta = {"cfg": "work_dir = './work_dirs/tsm_tiny_rgb'\n"}
    torch.save({"meta": meta, "state_dict": tensors}, folder / "says.pth")
    done = convert(folder, "says.pth", "x", "--source", "other")
    refused(done, f"the config in it is that of the source {ZOO.name}", f"--source {ZOO.name}")
    assert not (folder / "x").exists()


def test_classes_that_the_source_sorts_are_matched_by_name(made, tmp_path, monkeypatch):
    monkeypatch.setitem(CARDS, ZOO.name, dataclasses.replace(ZOO, sorted_classes=True))
    names = ("standing", "moving right", "moving left")  # sorted: 2, 1, 0
    data = make_dataset(tmp_path / "data", classes=names, frames=6, size=(16, 23))
    done = evaluate(made, "--out", str(tmp_path), data=data)
    assert done.returncode == 0, done.stderr
    assert "are the sorted names, as the tiny zoo count" in done.stdout
    assert "matched by name" in done.stdout
    scores = read_scores(next((tmp_path / "scores").glob("*.npz")))
    assert scores.class_names == tuple(sorted(names))
    assert scores.labels.tolist() == [2, 1, 0] * 3


def test_predict_averages_ten_crops(made, tmp_path):
    video = tmp_path / "frames"
    video.mkdir()
    reader = open_split(made.parent / "data", "validation")
    for number, jpeg in enumerate(reader.read_frames(0, range(6))):
        (video / f"{number:05d}.jpg").write_bytes(jpeg)
    arguments = [str(video), "--weights", str(made), "--views", "1x10", "--json"]
    done = run_here("predict.py", None, None, *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["views"] == "1x10"
    out = tmp_path / "out"
    assert evaluate(made, "--views", "1x10", "--view-scores", "--out", str(out)).returncode == 0
    scores = read_scores(next((out / "scores").glob("*.npz")))
    np.testing.assert_array_equal(scores.logits, average_views(scores.view_logits, "logits"))
    expected = probabilities_of_views(list(scores.view_logits[0]))
    by_label = {one["label"]: one["probability"] for one in found["classes"]}
    np.testing.assert_allclose([by_label[label] for label in range(3)], expected, atol=0.02)
