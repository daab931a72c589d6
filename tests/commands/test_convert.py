"""convert_torch_weights.py: checkpoints of every packing in, a weights folder out, one line for
what it cannot take.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import convert_torch_weights
from aia_jax import config as configs
from aia_jax.errors import exit_status
from aia_jax.models import model_from_config
from aia_jax.weights import WeightsError, from_torch, load_own, to_torch
from aia_jax.weights.files import load_folder, write_state_dict
from aia_jax.weights.init_from import load_start
from aia_jax.weights.open import open_weights
from tests.helpers import mmengine_file, torch_nets
from tests.helpers.paths import ROOT

DEMO = ["--config", str(ROOT / "configs" / "demo.py"), "--config.model.attention=C->ST"]
MODEL = model_from_config(configs.load(ROOT / "configs" / "demo.py", ["model.attention=C->ST"]))
NET = {"stem": MODEL.stem, "width": MODEL.width, "stage_sizes": MODEL.stage_sizes}
CLIP = (2, 32, 32, 3)


@pytest.fixture(scope="module")
def state_dict():
    net = torch_nets.randomise(
        torch_nets.VideoNet(MODEL.num_classes, attention="C->ST", **NET), seed=1
    )
    return net.float().state_dict()


@pytest.fixture(scope="module")
def expected(state_dict):
    return from_torch({key: value.numpy() for key, value in state_dict.items()}, MODEL, CLIP)


def convert(source, out) -> int:
    return exit_status(
        lambda: convert_torch_weights.main([*DEMO, "--torch", str(source), "--out", str(out)])
    )


def same(variables, expected):
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_the_command(tmp_path, state_dict, expected):
    """The reference's packing: DataParallel's prefix, nested, beside other plain values; ends with
    what to do next.
    """
    source, out = tmp_path / "best.pth.tar", tmp_path / "out" / "net"
    torch.save(
        {
            "epoch": 50,
            "best_prec1": torch.tensor(61.7),
            "state_dict": {f"module.{k}": v for k, v in state_dict.items()},
        },
        source,
    )
    command = [
        sys.executable,
        "convert_torch_weights.py",
        *DEMO,
        "--torch",
        str(source),
        "--out",
        str(out),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert f"--config.init_from={out}" in result.stdout
    assert (
        "a network of the AIA authors'" in result.stdout
        and "eft1 is C, eft2 is ST" in result.stdout
    )
    assert "fresh" not in result.stdout and "dropped" not in result.stdout

    variables, description = load_folder(out)
    same(variables, expected)
    assert description["source"] == {
        "file": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    assert (
        description["model"]["attention"] == "C->ST"
        and description["model"]["num_classes"] == MODEL.num_classes
    )
    assert len(description["report"]["loaded"]) == len(jax.tree.leaves(expected))
    opened = open_weights(out)  # frames, crop and resize of the recipe are kept
    config = configs.load(ROOT / "configs" / "demo.py")
    assert not opened.notes and opened.clip_shape[:2] == (config.data.num_frames, config.data.crop)
    assert sorted(path.name for path in out.iterdir()) == ["weights.json", "weights.safetensors"]


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_no_format_needs_torch(tmp_path, state_dict, expected, monkeypatch, ending):
    source = tmp_path / f"net.{ending}"
    (torch.save if ending == "pth" else safetensors.torch.save_file)(state_dict, source)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert convert(source, tmp_path / "out") == 0
    same(load_folder(tmp_path / "out")[0], expected)


@pytest.mark.parametrize("kind", ["zip", "legacy", "half", "bfloat16.safetensors"])
def test_other_packings(tmp_path, state_dict, expected, kind):
    source = tmp_path / "net.pth"
    if kind == "half":
        torch.save({"model": {key: value.half() for key, value in state_dict.items()}}, source)
    elif kind == "bfloat16.safetensors":
        source = tmp_path / "net.safetensors"
        safetensors.torch.save_file(
            {key: value.bfloat16() for key, value in state_dict.items()}, source
        )
    else:
        torch.save(state_dict, source, _use_new_zipfile_serialization=kind == "zip")
    assert convert(source, tmp_path / "out") == 0
    tolerance = {"half": 1e-3, "bfloat16.safetensors": 1e-2}.get(kind, 0)
    variables, _ = load_folder(tmp_path / "out")
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-6),
        variables,
        expected,
    )


def test_what_a_downloaded_file_says_is_kept(tmp_path, state_dict, expected, capsys):
    """A file in mmengine's form: its average, and the names of its classes if they fit the head."""
    names = [f"class {k}" for k in range(MODEL.num_classes)]
    ema = {f"module.{key}": torch.zeros_like(value) for key, value in state_dict.items()}
    for classes in (names, names[1:]):
        content = mmengine_file.make_checkpoint(state_dict, ema_state_dict=ema)
        content["meta"]["dataset_meta"] = {"classes": tuple(classes)}
        mmengine_file.save(tmp_path / "net.pth", content)
        assert convert(tmp_path / "net.pth", tmp_path / "out") == 0
        variables, description = load_folder(tmp_path / "out")
        same(variables, expected)
        assert description["class_names"] == (names if classes == names else None)
        printed = capsys.readouterr().out
        assert "note: the file holds 2 state dicts; taken: state_dict (the moving av" in printed
        assert "note: beside it, not read: optimizer, param_sch" in printed
        left = "the file names 7 classes, and its head has 8: the names are left"
        assert (left in printed) == (classes != names)
    options = [*DEMO, "--torch", str(tmp_path / "net.pth"), "--out", str(tmp_path / "ema")]
    convert_torch_weights.main([*options, "--state-dict", "ema_state_dict"])
    assert not any(leaf.any() for leaf in jax.tree.leaves(load_folder(tmp_path / "ema")[0]))
    wrong = [*options, "--state-dict", "other"]
    assert exit_status(lambda: convert_torch_weights.main(wrong)) == 2
    assert "has no state dict other; it holds state_dict, ema_state_dict" in capsys.readouterr().err


def test_imagenet_weights_leave_attention_and_head_out(tmp_path, capsys):
    shapes = torch_nets.key_shapes(1000, dropout=0, **NET)
    source = {
        key.removeprefix("base_model."): np.ones(shape, "f4") for key, shape in shapes.items()
    }
    safetensors.numpy.save_file(source, tmp_path / "resnet.safetensors")
    assert convert(tmp_path / "resnet.safetensors", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert (
        "[1000], [1000, 256]; 1000 classes there, 8 here" in printed
        and "attention/ST" in printed
        and "fresh" in printed
    )

    variables, _ = load_folder(tmp_path / "out")
    assert (
        "head" not in variables["params"]
        and "attention" not in variables["params"]["stage1_block0"]
    )
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, *CLIP), "f4"))
    initial = jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f4"), shapes)
    loaded, report = load_own(variables, initial, MODEL)
    assert jax.tree.structure(loaded) == jax.tree.structure(initial)
    assert report.fresh and not report.dropped


def test_own_files_come_back(tmp_path, expected, capsys):
    """What --to-torch writes, with the class names, and the file in a weights folder itself."""
    names = [f"class {k}" for k in range(MODEL.num_classes)]
    write_state_dict(tmp_path / "net.safetensors", to_torch(expected, MODEL), names)
    assert convert(tmp_path / "net.safetensors", tmp_path / "out") == 0
    variables, description = load_folder(tmp_path / "out")
    same(variables, expected)
    assert description["class_names"] == names
    assert "or one that --to-torch wrote" in capsys.readouterr().out

    assert convert(tmp_path / "out" / "weights.safetensors", tmp_path / "again") == 0
    same(load_folder(tmp_path / "again")[0], expected)
    assert "variables of this project" in capsys.readouterr().out


def test_the_keys_of_the_file_decide_whether_it_is_a_tsm(tmp_path, state_dict, capsys):
    """The recipe is a TSN's. The folder, what comes of it, and a run from it know better."""
    source, out = tmp_path / "tsm.safetensors", tmp_path / "out"
    wrapped = {
        key.replace("conv1.weight", "conv1.net.weight") if ".layer" in key else key: value
        for key, value in state_dict.items()
    }
    safetensors.torch.save_file(wrapped, source)
    assert convert(source, out) == 0
    printed = capsys.readouterr().out
    assert "note: the file shows model.temporal=tsm, unlike the config" in printed
    assert f"add --config.init_from={out} --config.model.temporal=tsm to the command" in printed
    assert convert(out / "weights.safetensors", tmp_path / "again") == 0
    for folder in (out, tmp_path / "again"):
        variables, description = load_folder(folder)
        assert description["model"]["temporal"] == "tsm"
        names = [str(number) for number in range(MODEL.num_classes)]
        _, report = load_start(folder, variables, MODEL, names)
        (note,) = report.notes
        assert note in str(report) and "trained with model.temporal=tsm; this run's is tsn" in note
        assert not load_start(folder, variables, MODEL.clone(temporal="tsm"), names)[1].notes
    with pytest.raises(
        WeightsError, match=r"this net shifts none\. The file's is model.temporal=tsm"
    ):
        from_torch({key: value.numpy() for key, value in wrapped.items()}, MODEL, CLIP)


class Exploit:
    """Pickles as a call: unpickled without care it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save(
        {"state_dict": {"conv1.weight": Exploit(tmp_path / "it_ran")}}, tmp_path / "evil.pth"
    )
    assert convert(tmp_path / "evil.pth", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is refused: it holds posix.mkdir" in error
    assert not (tmp_path / "it_ran").exists() and not (tmp_path / "out").exists()


def truncated(path: Path, state_dict) -> None:
    torch.save(state_dict, path)
    path.write_bytes(path.read_bytes()[:5000])


def write_shapes(path: Path, shapes) -> None:
    safetensors.numpy.save_file({key: np.ones(shape, "f4") for key, shape in shapes.items()}, path)


WRONG = {
    "missing.pth": (lambda path, _: None, "is missing"),
    "folder.pth": (lambda path, _: path.mkdir(), "is a folder"),
    "empty.pth": (lambda path, _: path.touch(), "cannot be read as a state dict"),
    "text.pth": (lambda path, _: path.write_text("not a pickle"), "cannot be read as a state dict"),
    "truncated.pth": (truncated, "cannot be read as a state dict"),
    "archive.pth": (
        lambda path, _: zipfile.ZipFile(path, "w").writestr("a", "b"),
        "cannot be read as a state dict",
    ),
    "number.pth": (
        lambda path, _: torch.save(3, path),
        "holds a value of type int, not a state dict",
    ),
    "nothing.pth": (lambda path, _: torch.save({}, path), "holds nothing, not a state dict"),
    "optimizer.pth": (
        lambda path, _: torch.save({"step": 3}, path),
        "'step' holds a value of type int",
    ),
    "module.pth": (
        lambda path, _: torch.save(torch.nn.Linear(1, 1), path),
        "is refused: it holds torch.nn.modules.linear.Linear",
    ),
    "text.safetensors": (
        lambda path, _: path.write_text("not safetensors"),
        "cannot be read as safetensors",
    ),
    "other.safetensors": (
        lambda path, _: safetensors.numpy.save_file({"bert.embeddings": np.ones(3, "f4")}, path),
        "it is of no network that is known here; its first keys are bert",
    ),
    "deeper.safetensors": (
        lambda path, _: write_shapes(path, torch_nets.key_shapes(1000, dropout=0, width=1)),
        "the weights are of a ResNet-50 (3-4-6-3 blocks), this net is a ResNet (1-1-1 blocks)",
    ),
    "block.safetensors": (
        lambda path, _: write_shapes(path, {"layer1.0.net.conv1.weight": (4, 4, 1, 1)}),
        "shifts the input of whole blocks (shift_place=block of TSM's code): layer1.0.net.conv1",
    ),
    "pool.safetensors": (
        lambda path, _: write_shapes(path, {"layer2.net.0.conv1.weight": (4, 4, 1, 1)}),
        "pools over time before a stage (temporal_pool of TSM's code): layer2.net.0.conv1.weight",
    ),
    "page.pth": (lambda path, _: path.write_text("<html>"), "a web page (HTML or XML)"),
    "resnet50d.safetensors": (
        lambda path, _: write_shapes(
            path, {"conv1.0.weight": (4, 3, 3, 3), "layer1.0.conv1.weight": (4, 4, 1, 1)}
        ),
        "has a stem of several convolutions (ResNet-C, -D, -S or -T): conv1.0.weight [4, 3, 3, 3]; "
        "only plain ResNets load",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_one_clear_error(tmp_path, state_dict, capsys, name):
    make, message = WRONG[name]
    make(tmp_path / name, state_dict)
    assert convert(tmp_path / name, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path, state_dict, capsys):
    torch.save(state_dict, tmp_path / "net.pth")
    for out in (tmp_path / "net.pth", tmp_path / "net.pth" / "below"):
        assert convert(tmp_path / "net.pth", out) == 2
        assert f"error: {out} cannot be written" in capsys.readouterr().err
