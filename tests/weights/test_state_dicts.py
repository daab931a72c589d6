"""Which state dict of a file is taken, what is said of the others, and what the file says."""

import collections
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from aia_jax.errors import UserError
from aia_jax.weights.about import About
from aia_jax.weights.state_dict_files import read_state_dict_file
from tests.helpers import mmengine_file

NAMES = ("layer1.0.conv1.weight", "layer1.0.bn1.running_mean", "fc.bias")


def weights(value: float, prefix: str = "", names=NAMES) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": torch.full((2,), value) for name in names}


def taken(path: Path, choice: str | None = None) -> tuple[float, tuple[str, ...]]:
    """The value of the weights that were taken, which have the plain names, and the notes."""
    file = read_state_dict_file(path, choice)
    assert set(NAMES) <= file.arrays.keys()
    return float(file.arrays[NAMES[0]][0]), file.notes


def save(path: Path, content) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_of_mmengine(tmp_path, older):
    """Its log, times and numbers of NumPy are data; what it says of the weights is handed on."""
    path = tmp_path / "tsm.pth"
    content = mmengine_file.make_checkpoint(weights(3.0))
    mmengine_file.save(path, content, _use_new_zipfile_serialization=not older)
    file = read_state_dict_file(path)
    assert list(file.arrays) == list(NAMES) and file.arrays["fc.bias"].tolist() == [3, 3]
    assert file.about == About(
        class_names=("abseiling", "air drumming", "archery"),
        epoch=50,
        config_text="model = dict(type='Recognizer2D')\n",
        source="mmengine 0.10.1",
    )
    assert file.notes == ("beside it, not read: optimizer, param_schedulers",)


def test_mmengine_stores_the_average_as_its_state_dict(tmp_path):
    ema = {"steps": torch.tensor(9), **weights(1.0, "module.")}
    path = tmp_path / "ema.pth"
    mmengine_file.save(path, mmengine_file.make_checkpoint(weights(2.0), ema_state_dict=ema))
    value, notes = taken(path)
    assert value == 2 and notes[0] == (
        "the file holds 2 state dicts; taken: state_dict (the moving average); --state-dict "
        "ema_state_dict takes another one"
    )
    value, notes = taken(path, "ema_state_dict")
    assert value == 1 and "taken: ema_state_dict (the weights)" in notes[0]


@pytest.mark.parametrize(
    ("content", "average", "plain"),
    [
        # timm, the programs of DeiT and torchvision, Lightning's hooks, DINO.
        ({"state_dict": weights(1), "state_dict_ema": weights(2)}, "state_dict_ema", "state_dict"),
        ({"model": weights(1), "model_ema": weights(2)}, "model_ema", "model"),
        ({"model": weights(1), "model_ema": weights(2, "module.")}, "model_ema", "model"),
        ({"model": weights(1), "ema": {"model": weights(2)}}, "ema.model", "model"),
        ({"student": weights(1), "teacher": weights(2)}, "teacher", "student"),
        (weights(1) | weights(2, "ema_model."), "ema_model", "top"),
        (
            {"state_dict": weights(1) | weights(2, "model_ema.module.")},
            "state_dict.model_ema",
            "state_dict",
        ),
    ],
)
def test_the_average_is_taken_and_either_can_be_chosen(tmp_path, content, average, plain):
    path = save(tmp_path / "net.pth", content | {"epoch": 3})
    note = read_state_dict_file(path).notes[0]
    assert f"taken: {average} (the moving average); --state-dict {plain} takes" in note
    for choice, value in ((None, 2), (average, 2), (plain, 1)):
        arrays = read_state_dict_file(path, choice).arrays
        assert {key.removeprefix("module.") for key in arrays} == set(NAMES)
        assert all(array[0] == value for array in arrays.values())
    with pytest.raises(UserError, match=f"has no state dict x; it holds .*{average}"):
        read_state_dict_file(path, "x")


def test_mmcv_keeps_the_trained_weights_beside_the_average(tmp_path):
    """Its buffers have the names of parameters with `_` for dots; statistics have no copy."""
    trained = {f"ema_{name.replace('.', '_')}": torch.zeros(2) for name in (NAMES[0], NAMES[2])}
    path = save(tmp_path / "net.pth", {"state_dict": weights(5) | trained})
    value, notes = taken(path)
    assert value == 5 and "taken: state_dict (the moving average)" in notes[0]
    assert list(read_state_dict_file(path).arrays) == list(NAMES)
    arrays = read_state_dict_file(path, "state_dict.ema_").arrays
    assert [array[0] for array in arrays.values()] == [0, 5, 0]


def test_the_flat_formats_are_split_alike(tmp_path):
    arrays = {key: value.numpy() for key, value in (weights(1) | weights(2, "ema.")).items()}
    safetensors.numpy.save_file(arrays, tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **arrays)
    for ending in ("safetensors", "npz"):
        assert taken(tmp_path / f"net.{ending}")[0] == 2
        assert taken(tmp_path / f"net.{ending}", "top")[0] == 1


def test_several_networks_need_a_choice(tmp_path):
    path = save(tmp_path / "net.pth", {"verb": weights(1), "noun": weights(2)})
    with pytest.raises(UserError, match="holds several state dicts: verb, noun; choose one with"):
        read_state_dict_file(path)
    assert taken(path, "noun")[0] == 2


def test_deeper_packings_and_numbers_beside_the_weights(tmp_path):
    best = {"epoch": torch.tensor(3), "best_prec1": torch.tensor(1.5)}
    for content in (
        {"model": {"state_dict": weights(1)}},
        best | {"net": weights(1), "optimizer": {"state": {0: weights(9)}}},
        {"pytorch-lightning_version": "2.1", "state_dict": weights(1, "model."), "loops": {}},
        weights(1, "module._orig_mod."),
        weights(1) | {"epoch": 3},
    ):
        arrays = read_state_dict_file(save(tmp_path / "net.ckpt", content)).arrays
        assert {key.removeprefix("module.") for key in arrays} == set(NAMES)
        assert all(array[0] == 1 for array in arrays.values())


def test_module_before_a_part_of_the_keys_is_left_off(tmp_path):
    mixed = weights(1, names=NAMES[:1]) | weights(1, "module.", NAMES[1:])
    value, notes = taken(save(tmp_path / "net.pth", mixed))
    assert value == 1 and notes == ("module. before 2 of 3 keys is left off",)


def test_an_optimizer_alone_is_named(tmp_path):
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    with pytest.raises(UserError, match="holds an optimizer's state alone; give the file with"):
        read_state_dict_file(save(tmp_path / "net.pth", optimizer))


def test_another_framework_in_a_pickle_is_named(tmp_path):
    content = {"conv1.weight": np.ones(2), "StructuredToParameterName@@": {}}
    with pytest.raises(UserError, match="is a file of PaddlePaddle"):
        read_state_dict_file(save(tmp_path / "net.pth", content))


@pytest.mark.parametrize(
    ("content", "about"),
    [
        (
            {"meta": {"CLASSES": ["a", "b"], "config": "x = 1", "mmaction_version": "0.12.0"}},
            About(("a", "b"), None, "x = 1", "mmaction2 0.12.0"),
        ),
        ({"arch": "resnet50", "epoch": 49}, About(None, 49, None, "a training of resnet50")),
        ({"class_to_idx": {"b": 1, "a": 0}}, About(("a", "b"))),
        ({"classes": np.array(["a", "b"])}, About(("a", "b"))),
        ({"classes": ["a", 3], "epoch": -1, "cfg": 3}, About()),
        ({"class_to_idx": {"b": 1, "a": 3}}, About()),
    ],
)
def test_what_a_file_says(tmp_path, content, about):
    path = save(tmp_path / "net.pth", {"state_dict": weights(1), **content})
    assert read_state_dict_file(path).about == about


def test_config_json_beside_safetensors(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(2, "f4")}, tmp_path / "model.safetensors")
    text = '{"architectures": ["ResNetForImageClassification"], "id2label": {"1": "b", "0": "a"}}'
    (tmp_path / "config.json").write_text(text)
    assert read_state_dict_file(tmp_path / "model.safetensors").about == About(
        ("a", "b"), None, text, "config.json of ResNetForImageClassification"
    )
    (tmp_path / "config.json").write_text("{")
    assert read_state_dict_file(tmp_path / "model.safetensors").about == About()


def test_attributes_of_a_state_dict_are_left(tmp_path):
    """torch.nn.Module.state_dict() has an attribute that a pickle sets."""
    content = collections.OrderedDict(weights(1))
    content._metadata = collections.OrderedDict({"": {"version": 1}})
    assert taken(save(tmp_path / "net.pth", content)) == (1, ())
