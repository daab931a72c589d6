"""Weights that no run has trained: opened as a network, with the names of its classes."""

import json

import jax
import numpy as np
import pytest

import predict
from aia_jax import config as configs
from aia_jax.errors import UserError, exit_status
from aia_jax.models import model_from_config
from aia_jax.weights.class_file import read_class_file
from aia_jax.weights.files import save_folder
from aia_jax.weights.open import name_classes, open_trained, open_weights
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE, session_compile_cache
from tests.helpers.tiny_variables import drawn

MODEL = {"name": "resnet", "stem": "small", "width": 8, "stage_sizes": [1], "attention": "C"}
GEOMETRY = {"num_frames": 4, "crop": 12, "resize": [18, 24], "sampling": "uniform"}
NAMES = ["up", "down", "still"]


@pytest.fixture(scope="module")
def variables():
    config = configs.from_json(json.dumps({"model": MODEL, "data": {"num_classes": 3}}))
    return drawn(model_from_config(config), np.zeros((1, 4, 12, 12, 3), np.float32))


@pytest.fixture
def folder(tmp_path, variables):
    save_folder(tmp_path / "net", variables, {"model": MODEL, "data": GEOMETRY})
    return tmp_path / "net"


def change(folder, **fields) -> None:
    """Replaces fields of weights.json; None removes one."""
    path = folder / "weights.json"
    content = {**json.loads(path.read_text()), **fields}
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept))


def test_the_folder_says_network_clips_and_frames(folder, variables):
    run = open_weights(folder)
    assert run.clip_shape == (4, 12, 12, 3) and run.config.data.sampling == "uniform"
    assert run.config.data.resize == (18, 24) and run.data["options"] == {"--size": "18x24"}
    assert run.model.attention == "C" and run.step is None and not run.notes
    assert run.class_names == ("class 0", "class 1", "class 2") and not run.names_known
    jax.tree.map(np.testing.assert_array_equal, dict(run.variables), variables)
    other = open_weights(folder, overrides=["data.num_frames=2", "data.resize=20,30"])
    assert other.clip_shape[0] == 2 and other.overrides["data.num_frames"] == (4, 2)
    assert other.data["options"] == {"--size": "20x30"}
    change(folder, data=GEOMETRY | {"resize": "short20"})
    short = open_weights(folder)
    assert short.config.data.resize == "short20" and short.data["options"] == {"--size": "short20"}


def test_what_an_older_folder_does_not_keep_is_said(folder, tmp_path):
    change(folder, data=None)
    run = open_weights(folder, overrides=["data.crop=12"])
    (note,) = run.notes
    assert "data.num_frames=8" in note and "data.resize=240,320" in note and "base.py" in note
    recipe = tmp_path / "tiny.py"
    recipe.write_text(RECIPE.format(data="nowhere"))
    run = open_weights(folder, recipe=configs.load(recipe))
    assert run.clip_shape == (4, 12, 12, 3) and "the recipe has: data.num_frames=4" in run.notes[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "up\r\ndown\r\nstill\r\n\r\n"),
        ("names.txt", "\ufeffup\ndown\nstill"),
        ("names.json", json.dumps(NAMES)),
        ("names.json", json.dumps({"down": 1, "up": 0, "still": 2})),
        ("labels.json", json.dumps({"down": "1", "up": "0", "still": "2"})),
        ("names", json.dumps({"2": "still", "1": "down", "0": "up"})),
    ],
)
def test_names_come_from_files_of_every_form(folder, tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    run = open_weights(folder, tmp_path / name)
    assert run.class_names == tuple(NAMES) and run.names_known


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("up\ndown\n", "has 2 names, and the head of the weights 3 classes"),
        ("", "has 0 names"),
        ("up\n\nstill", "class 1 is '': it is empty"),
        ("up\ndown\nup", "'up' is there twice"),
        ('["up", 3, "still"]', "expected one name a line, or JSON"),
        ('{"up": 0, "down": 1, "still": 3}', "no class has the label 2"),
        ('{"up": 0, "down": 1, "still": 1}', "no class has the label 2"),
        ('{"up": 0, "down": 1.5, "still": 2}', "found {'down': 1.5}"),
        ('["up", "down", "still"', "not JSON"),
    ],
)
def test_a_wrong_class_file_is_one_line(folder, tmp_path, content, said):
    (tmp_path / "names").write_text(content)
    with pytest.raises(UserError) as error:
        open_weights(folder, tmp_path / "names")
    assert said in str(error.value) and "--classes" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_file_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "names").write_bytes(b"up\n\xff\nstill")
    for path, said in ((tmp_path / "nowhere", "cannot be read"), (tmp_path / "names", "not UTF-8")):
        with pytest.raises(UserError, match=said):
            read_class_file(path, 3)


def test_names_of_folder_file_and_data_are_compared(folder, tmp_path):
    change(folder, class_names=NAMES)
    run = open_weights(folder)
    assert run.class_names == tuple(NAMES)
    assert name_classes(run, NAMES, "DATA").class_names == tuple(NAMES)
    (tmp_path / "names").write_text("up\nstill\ndown")
    with pytest.raises(UserError, match="class 1 was 'down' and is 'still'"):
        open_weights(folder, tmp_path / "names")
    with pytest.raises(UserError, match="DATA has 2 classes"):
        name_classes(run, NAMES[:2], "DATA")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": None}, "does not say of which network"),
        ({"model": MODEL | {"attention": "none"}}, "not of the network in its weights.json"),
        ({"model": MODEL | {"attention": "C->ST"}}, "of its network"),
        ({"model": MODEL | {"width": 16}}, "model.width"),
        ({"model": MODEL | {"widht": 16}}, "model.widht"),
        ({"data": GEOMETRY | {"crop": "12"}}, "data.crop"),
        ({"data": GEOMETRY | {"crop": 19}}, "data.crop"),
        ({"data": [4]}, "expected an object"),
    ],
)
def test_a_folder_of_another_network_is_refused(folder, fields, said):
    change(folder, **fields)
    with pytest.raises(UserError) as error:
        open_weights(folder)
    assert said in str(error.value) and str(folder) in str(error.value)


def test_a_backbone_without_head_predicts_nothing(tmp_path, variables):
    params = {name: leaf for name, leaf in variables["params"].items() if name != "head"}
    save_folder(tmp_path, {**variables, "params": params}, {"model": MODEL, "data": GEOMETRY})
    with pytest.raises(UserError, match="a backbone without a head"):
        open_weights(tmp_path)


def test_overrides_cannot_make_another_network(folder):
    with pytest.raises(UserError, match="of no use to another network"):
        open_weights(folder, overrides=["model.attention=none"])


def test_weights_predict_as_the_run_that_they_come_from(tmp_path, capsys):
    recipe = tmp_path / "tiny.py"
    recipe.write_text(RECIPE.format(data="nowhere"))
    make_run(tmp_path / "run", recipe, ["data.resize=18,24"], NAMES, {})
    run, net = open_trained(tmp_path / "run"), tmp_path / "net"
    data = {field: run.config.data[field] for field in GEOMETRY}
    save_folder(net, run.variables, {"model": run.config.model.to_dict(), "data": data})
    assert run.step == 12 and open_trained(net).step is None
    assert open_trained(net).weights_fingerprint() == run.weights_fingerprint()
    (tmp_path / "names").write_text("\n".join(NAMES))
    video = write_video(tmp_path / "a.mp4", numbered_frames(8, 30, 42))
    found = []
    for source in (
        ["--workdir", tmp_path / "run"],
        ["--weights", net],
        ["--weights", net, "--classes", tmp_path / "names"],
        ["--weights", net, "--config", recipe, "--config.data.crop=10"],
    ):
        with session_compile_cache():
            status = predict.main(list(map(str, [video, *source, "--json"])))
        assert status == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one["name"] for one in found[1]["classes"]] == [
        f"class {one['label']}" for one in found[0]["classes"]
    ]
    assert found[1]["step"] is None and found[2] == {**found[0], "step": None}
    assert found[3]["classes"] != found[1]["classes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weights", "net", "--workdir", "run"], "either the folder of a trained run"),
        ([], "either the folder of a trained run"),
        (["--weights", "net", "--step", "7"], "--step chooses a checkpoint"),
        (["--weights", "nowhere"], "nowhere is not a folder of weights"),
        (["--weights", "net", "--classes", "nowhere.txt"], "cannot be read"),
        (["--weights", "net", "--config.data.crop=99"], "data.crop"),
    ],
)
def test_wrong_input_of_predict_is_one_line(folder, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(folder.parent)
    assert exit_status(lambda: predict.main(["a.mp4", *arguments])) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
