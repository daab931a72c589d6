"""convert_torch_weights.py for ViTs: Google's .npz, another picture size, siblings with the same
keys.
"""

import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import convert_torch_weights
from aia_jax import create_model
from aia_jax.errors import UserError, exit_status
from aia_jax.models import clip_shape
from aia_jax.weights import from_torch, to_torch
from aia_jax.weights.files import load_folder
from aia_jax.weights.init_from import load_start
from aia_jax.weights.open import open_weights
from tests.golden import recipe
from tests.helpers.paths import GOLDEN

SHAPES = json.loads((GOLDEN / "vit_library_state_dict_shapes.json").read_text())["Google"]
FILE = {key: recipe.vit_tensor(key, tuple(shape)) for key, shape in SHAPES.items()}
FIELDS = {"size": "", "width": 32, "layers": 2, "heads": 4, "mlp_dim": 48, "patch": 8}
NAMES = [f"class {k}" for k in range(7)]
RECIPE = f"""
from configs import base

def get_config():
    config = base.get_config()
    base.use_network(config, "vit", image_size=(32, 32), shift="KV", **{FIELDS})
    config.data.num_classes, config.data.num_frames, config.data.crop = 7, 3, 32
    return config
"""


def network(image_size=32, **fields):
    return create_model(7, 3, name="vit", image_size=image_size, **{**FIELDS, **fields})


@functools.cache
def fresh(model):
    """Zeros: nothing that loads is of them."""
    clips = np.zeros((1, *clip_shape(model)), "f4")
    shapes = jax.eval_shape(model.init, jax.random.key(0), clips)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.fixture
def convert(tmp_path):
    """Runs the command with the recipe above, and returns its status."""
    path = tmp_path / "vit.py"
    path.write_text(RECIPE)

    def run(source, out, *overrides) -> int:
        flags = ["--config", str(path), "--torch", str(source), "--out", str(out), *overrides]
        return exit_status(lambda: convert_torch_weights.main(flags))

    return run


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "ViT.npz", **FILE)
    return tmp_path / "ViT.npz"


def same(variables, expected):
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_googles_file_becomes_a_folder(convert, npz, tmp_path, capsys):
    out = tmp_path / "out"
    assert convert(npz, out) == 0
    printed = capsys.readouterr().out
    size = "ViT (2 layers, 32 channels, patches of 8), positions for 4x4 patches, 7 classes in head"
    assert f"ViT.npz: Google's ViT (.npz): {size}" in printed
    assert f"--config.init_from={out}" in printed
    assert all(word not in printed for word in ("note", "fresh", "dropped", "decides"))

    variables, description = load_folder(out)
    same(variables, from_torch(FILE, network()))
    assert description["model"]["shift"] == "KV" and description["shown"] == {}
    opened = open_weights(out)
    assert opened.model == network(shift="KV") and opened.clip_shape == (3, 32, 32, 3)
    # A public ViT has no shift: whatever starts from it is as it is meant.
    _, report = load_start(out, fresh(network(shift="token")), network(shift="token"), NAMES)
    assert not report.fresh and not report.notes


def test_positions_are_resized_for_a_folder_and_for_a_start_from_it(convert, npz, tmp_path, capsys):
    other = network((48, 48))
    overrides = ["--config.model.image_size=48,48", "--config.data.crop=48"]
    assert (
        convert(npz, tmp_path / "small") == 0 and convert(npz, tmp_path / "large", *overrides) == 0
    )
    assert "pos_embedding is resized from 4x4 patches to 6x6, linearly" in capsys.readouterr().out
    large, _ = load_folder(tmp_path / "large")
    started, report = load_start(tmp_path / "small", fresh(other), other, NAMES)
    same(started, large)
    assert "params/position_embedding is resized from 4x4 patches to 6x6" in str(report)
    assert convert(tmp_path / "small" / "weights.safetensors", tmp_path / "again", *overrides) == 0
    same(load_folder(tmp_path / "again")[0], large)


def test_the_config_decides_what_siblings_keys_do_not_say(convert, tmp_path, capsys):
    source, out = tmp_path / "TokShift.safetensors", tmp_path / "out"
    tokshift = network(shift="token")
    safetensors.numpy.save_file(to_torch(from_torch(FILE, tokshift), tokshift), source)
    assert convert(source, out, "--config.model.shift=token") == 0
    printed = capsys.readouterr().out
    assert "its keys do not say which: model.shift decides" in printed
    assert "model.shift=token, model.shift_div=0: the config" in printed

    _, report = load_start(out, fresh(network(shift="KV")), network(shift="KV"), NAMES)
    assert "trained with model.shift=token; this run's is KV, which counts" in str(report)
    assert not load_start(out, fresh(tokshift), tokshift, NAMES)[1].notes
    other = network(shift="token", shift_div=8)
    with pytest.raises(UserError, match=r"model.shift_div=4, this run has 8"):
        load_start(out, fresh(other), other, NAMES)


WRONG = {
    "another size": (
        lambda arrays: arrays,
        ["--config.model.width=64", "--config.model.layers=3"],
        "model.width: the weights' is 32 (embedding/kernel [8, 8, 3, 32]), this net's is 64",
    ),
    "hybrid": (
        lambda arrays: {**arrays, "conv_root/kernel": np.ones((7, 7, 3, 64), "f4")},
        [],
        "makes its patches with a ResNet (hybrid R+ViT): conv_root/kernel [7, 7, 3, 64]",
    ),
    "not square": (
        lambda arrays: {
            **arrays,
            "Transformer/posembed_input/pos_embedding": np.ones((1, 13, 32), "f4"),
        },
        [],
        "[1, 13, 32] is a positional grid that cannot be resized: 12 patches",
    ),
    "no numbers": (
        lambda arrays: {**arrays, "cls": np.full((1, 1, 32), np.nan, "f4")},
        [],
        "values: cls holds NaN or infinity",
    ),
    "objects": (
        lambda arrays: {**arrays, "cls": np.array([{}], object)},
        [],
        "cls holds pickled objects",
    ),
    "a ResNet's recipe": (
        lambda arrays: arrays,
        ["--config", "configs/demo.py"],
        "of the network 'vit', and the recipe's network is 'resnet' (config key model.name)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_converted_is_one_clear_error(convert, tmp_path, capsys, case):
    change, overrides, message = WRONG[case]
    np.savez(tmp_path / "ViT.npz", **change(FILE))
    assert convert(tmp_path / "ViT.npz", tmp_path / "out", *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()
