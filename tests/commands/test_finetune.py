"""Weights of a run as the start of another: other classes, other clip lengths, other networks; and
out to PyTorch.
"""

import contextlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch
from flax.traverse_util import flatten_dict

import eval as eval_command
import train as train_command
from aia_jax import compile_cache
from aia_jax import config as configs
from aia_jax.checkpoints.trained_run import open_run
from aia_jax.errors import UserError, exit_status
from aia_jax.models import model_from_config
from aia_jax.prediction.predict import Classifier
from aia_jax.weights import __main__ as weights_command
from aia_jax.weights import from_torch
from aia_jax.weights.files import load_folder, save_folder
from aia_jax.weights.init_from import check_init_from, load_start
from tests.helpers import torch_nets
from tests.helpers.paths import ROOT
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_run import little_optimisation, make_recipe, session_compile_cache

NET = {"width": 8, "stage_sizes": (1,), "stem": "small", "attention": "C"}
CLASSES = ("moving left", "moving right", "standing")  # of tiny_data


@contextlib.contextmanager
def options_that_dump(folder):
    """Inside, `compiler_options()` makes XLA write each program that is compiled with them to the
    folder. No folder of compiled programs is looked at.
    """
    with pytest.MonkeyPatch.context() as patch, little_optimisation():
        patch.setattr(compile_cache, "_CONVOLUTIONS_BY_EIGEN", {"xla_dump_to": str(folder)})
        compile_cache.compiler_options.cache_clear()
        yield
    compile_cache.compiler_options.cache_clear()


def dumped(folder):
    """The names of the programs there."""
    return {path.name.split(".")[1] for path in folder.glob("*.before_optimizations.txt")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe, and the workdir of its run at T = 8, with a moving average."""
    folder = tmp_path_factory.mktemp("finetune")
    recipe = make_recipe(folder, frames=(16, 5))
    arguments = [
        "--config",
        str(recipe),
        "--workdir",
        str(folder / "run"),
        "--config.train.epochs=1",
        "--config.data.num_frames=8",
    ]
    with options_that_dump(folder / "programs"):
        train_command.main([*arguments, "--config.train.ema_decay=0.5"])
    return recipe, folder / "run"


def start(recipe, init_from, class_names, *overrides):
    """What a run of the recipe on these classes begins with: before, after, report."""
    config = configs.load(recipe, [f"data.num_classes={len(class_names)}", *overrides])
    model = model_from_config(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 12, 12, 3), "f4"))
    rng = np.random.default_rng(1)
    before = jax.tree.map(lambda leaf: rng.random(leaf.shape, "f4"), shapes)
    after, report = load_start(init_from, before, model, class_names)
    return flatten_dict(before, sep="/"), flatten_dict(after, sep="/"), report


def test_classes_are_mapped_by_name(trained):
    recipe, workdir = trained
    run = flatten_dict(open_run(workdir).variables, sep="/")
    before, after, report = start(
        recipe, workdir, ("standing", "jumping", "moving left", "falling")
    )
    for name, leaf in after.items():
        if "head" not in name:
            np.testing.assert_array_equal(leaf, run[name])
    for name in ("params/head/kernel", "params/head/bias"):
        np.testing.assert_array_equal(after[name][..., [0, 2]], run[name][..., [2, 0]])
        np.testing.assert_array_equal(after[name][..., [1, 3]], before[name][..., [1, 3]])
    assert (
        not report.fresh
        and not report.dropped
        and {entry.variable for entry in report.loaded} == set(after)
    )
    assert "classes: 2 of 4 mapped by name, 2 fresh, 1 left behind" in str(report)


def test_without_a_common_class_the_head_is_fresh(trained):
    """Though there are as many classes: a row would mean another one."""
    recipe, workdir = trained
    before, after, report = start(recipe, workdir, ("jumping", "falling", "turning"))
    np.testing.assert_array_equal(after["params/head/kernel"], before["params/head/kernel"])
    assert (
        set(report.fresh)
        == {"params/head/kernel", "params/head/bias"}
        == {entry.key for entry in report.dropped}
    )
    assert "0 of 3 mapped by name" in str(report)


def test_other_attention_is_fresh_and_names_in_a_folder_count_too(trained, tmp_path):
    recipe, workdir = trained
    run = open_run(workdir)
    for names, mapped in ((run.class_names, True), (None, False)):
        save_folder(tmp_path / "weights", run.variables, {"class_names": names})
        _, after, report = start(
            recipe, tmp_path / "weights", CLASSES[::-1], "model.attention=C->ST"
        )
        head = run.variables["params"]["head"]["kernel"]
        np.testing.assert_array_equal(
            after["params/head/kernel"], head[:, ::-1] if mapped else head
        )
        assert bool(report.classes) == mapped
        assert report.fresh and all("/attention/ST/" in name for name in report.fresh)


def test_weights_of_another_depth_and_folders_of_something_else(trained, tmp_path):
    recipe, workdir = trained
    with pytest.raises(
        UserError,
        match=r"of a ResNet \(1 blocks\), this net is a ResNet \(1-1 blocks\); give weights of the "
        r"same size",
    ):
        start(recipe, workdir, CLASSES, "model.stage_sizes=1,1")
    config = configs.load(recipe, [f"init_from={tmp_path}"])
    with pytest.raises(
        UserError,
        match=r"is neither a folder of convert_torch_weights.py .* nor the workdir of a run",
    ):
        check_init_from(config, str(recipe))


@pytest.mark.parametrize("frames", [12, 16])
def test_a_run_at_8_frames_is_tested_at_others(trained, frames, capsys):
    recipe, workdir = trained
    assert (
        eval_command.main(
            [
                "--config",
                str(recipe),
                "--workdir",
                str(workdir),
                f"--config.data.num_frames={frames}",
            ]
        )
        == 0
    )
    assert f"note: trained with 8 frames a clip, tested with {frames}" in capsys.readouterr().out
    result = json.loads((workdir / "eval.json").read_text())
    assert (
        result["num_frames"] == frames
        and result["evaluated"] == result["expected"] == 9
        and np.isfinite(result["loss"])
    )


def test_every_command_compiles_its_network_with_the_compiler_options(trained, tmp_path):
    recipe, workdir = trained
    assert dumped(workdir.parent / "programs") >= {"jit_step_and_rate", "jit_eval_step"}
    with options_that_dump(tmp_path / "eval"):
        eval_command.main(["--config", str(recipe), "--workdir", str(workdir)])
    assert "jit_view_step" in dumped(tmp_path / "eval")
    run = open_run(workdir)
    with options_that_dump(tmp_path / "predict"):
        Classifier(run, 1)([np.zeros(run.clip_shape, np.uint8)])
    assert "jit__lambda" in dumped(tmp_path / "predict")


def test_a_run_at_8_frames_is_fine_tuned_at_16_on_other_classes(trained, tmp_path, capfd):
    recipe, workdir = trained
    data = make_dataset(
        tmp_path / "data", 3, classes=("jumping", "standing"), frames=16, size=(16, 16)
    )
    arguments = [
        "--config",
        str(recipe),
        "--workdir",
        str(tmp_path / "run"),
        f"--config.data.dir={data}",
        "--config.data.num_classes=2",
    ]
    with session_compile_cache():
        train_command.main(
            [
                *arguments,
                f"--config.init_from={workdir}",
                "--config.data.num_frames=16",
                "--config.train.epochs=1",
                "--config.train.freeze=stem/.*",
                "--config.train.partial_bn=true",
            ]
        )
    assert "classes: 1 of 2 mapped by name, 1 fresh, 2 left behind" in capfd.readouterr().out
    before, after = (
        flatten_dict(open_run(folder).variables["params"], sep="/")
        for folder in (workdir, tmp_path / "run")
    )
    same = {name for name, leaf in after.items() if np.array_equal(leaf, before[name])}
    norms = {
        f"stage1_block0/{norm}/{leaf}"
        for norm in ("bn1", "bn2", "bn3", "shortcut_bn")
        for leaf in ("scale", "bias")
    }
    assert same == {"stem/conv/kernel", "stem/bn/scale", "stem/bn/bias"} | norms


def test_out_to_pytorch(trained, tmp_path, capsys):
    """The command on a run and on a folder: the reference's net loads the file with strict=True."""
    recipe, workdir = trained
    run, out = open_run(workdir), tmp_path / "new" / "net.safetensors"
    command = [
        sys.executable,
        "-m",
        "aia_jax.weights",
        "--to-torch",
        "--workdir",
        str(workdir),
        "--out",
        str(out),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert (
        f"-> {out}: " in result.stdout
        and "head new_fc.weight [3, 32], TSN with C, ResNet" in result.stdout
    )

    config = configs.load(recipe)
    save_folder(
        tmp_path / "weights", run.variables, {"model": {**config.model.to_dict(), "num_classes": 3}}
    )
    weights_command.main(
        ["--to-torch", "--weights", str(tmp_path / "weights"), "--out", str(tmp_path / "net.pth")]
    )
    content = safetensors.numpy.load_file(out)
    from_pth = torch.load(tmp_path / "net.pth", weights_only=True)
    assert content.keys() == from_pth.keys()
    torch_nets.VideoNet(3, **NET).load_state_dict(from_pth, strict=True)
    for state_dict in (content, {key: value.numpy() for key, value in from_pth.items()}):
        jax.tree.map(
            np.testing.assert_array_equal,
            from_torch(state_dict, run.model, (2, 12, 12, 3)),
            dict(run.variables),
        )


def test_out_to_pytorch_with_wrong_input(trained, tmp_path, capsys):
    _, workdir = trained
    run = open_run(workdir)
    no_head = {
        "params": {name: part for name, part in run.variables["params"].items() if name != "head"}
    }
    fields = {**run.config.model.to_dict(), "num_classes": 3}
    save_folder(tmp_path / "part", {**run.variables, **no_head}, {"model": fields})
    for source, out, message in (
        (["--workdir", workdir], "net.onnx", "the ending says the format"),
        (["--workdir", tmp_path], "net.pth", "there is no checkpoint in"),
        (["--weights", workdir], "net.pth", "is not a folder of weights"),
        (["--weights", tmp_path / "part"], "net.pth", "holds a backbone without a head"),
    ):
        arguments = ["--to-torch", *map(str, source), "--out", str(tmp_path / out)]
        assert exit_status(lambda arguments=arguments: weights_command.main(arguments)) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / out).exists()


def test_folder_without_a_network(tmp_path):
    save_folder(tmp_path, {"params": {"head": {"bias": np.zeros(1, "f4")}}}, {})
    with pytest.raises(UserError, match="does not say of which network"):
        weights_command.main(
            ["--to-torch", "--weights", str(tmp_path), "--out", str(tmp_path / "net.pth")]
        )
    assert load_folder(tmp_path)[0]
