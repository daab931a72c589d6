"""A method with a second module, an optimiser of its own and a teacher, through train.py itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aia_jax.checkpoints.files import load_weights
from aia_jax.models.preprocess import preprocessing
from aia_jax.training import methods
from aia_jax.training.metrics import batch_means, cross_entropy
from aia_jax.training.state import TrainState
from aia_jax.training.step import Method, accumulated_gradients, apply_gradients, step_key
from tests.helpers.tiny_run import make_recipe, run_here


def make_teacher_method(config, model, tx, frozen, objective):
    """A module learns by what the teacher, an average of the model, makes of clips it brightens."""
    module_tx = optax.sgd(0.05, momentum=0.9)
    preprocess = preprocessing(model)
    num_classes = config.data.num_classes

    def create(variables, key):
        bias = jax.random.normal(key, (num_classes,)) * 0.1
        module = {"gain": jnp.ones(3), "bias": bias}
        kept = {"module": module, "opt_state": module_tx.init(module)}
        return TrainState.create(variables, tx, ema=True, method_state=kept)

    def mixed(module, clips, labels):
        targets = 0.9 * jax.nn.one_hot(labels, num_classes) + 0.1 * jax.nn.softmax(module["bias"])
        return preprocess(clips) * module["gain"], targets

    def step(state, batch, key):
        key = step_key(key, state)
        module = state.method_state["module"]

        def student_loss(params, batch_stats, rows, key):
            clips, targets = mixed(module, rows["clips"], rows["labels"])
            logits, new = model.apply(
                {"params": params, "batch_stats": batch_stats},
                clips,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            losses = cross_entropy(logits, targets)
            means = batch_means(losses, logits, targets)
            return means["loss"], (new["batch_stats"], means)

        def module_loss(module):
            clips, targets = mixed(module, batch["clips"], batch["labels"])
            return cross_entropy(model.apply(state.ema, clips), targets).mean()

        grads, batch_stats, means = accumulated_gradients(student_loss, config.train.accumulate)(
            state.params, state.batch_stats, batch, key
        )
        teacher_loss, module_grads = jax.value_and_grad(module_loss)(module)
        updates, opt_state = module_tx.update(module_grads, state.method_state["opt_state"])
        state, grad_norm = apply_gradients(state, tx, grads, batch_stats, ema_decay=0.5)
        kept = {"module": optax.apply_updates(module, updates), "opt_state": opt_state}
        means |= {"grad_norm": grad_norm, "teacher_loss": teacher_loss}
        return state.replace(method_state=kept), means

    return Method(create, step)


@pytest.fixture
def teacher(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", {**methods.METHODS, "teacher": make_teacher_method})


def test_what_a_method_keeps_is_trained_saved_and_resumed(teacher, tmp_path):
    recipe = make_recipe(tmp_path)

    def run(workdir, epochs):
        settings = ("train.method=teacher", "train.accumulate=2", f"train.epochs={epochs}")
        overrides = [f"--config.{setting}" for setting in settings]
        done = run_here("train.py", recipe, tmp_path / workdir, *overrides)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / workdir / "checkpoints"
        step = 4 * epochs
        return folder, json.loads((folder / str(step) / "leaves" / "metadata").read_bytes())

    run("parts", 1)
    _, in_two_parts = run("parts", 2)
    folder, whole = run("whole", 2)
    assert in_two_parts == whole  # shapes and digests of all leaves

    kept = {path for path in whole if path.startswith("method_state/")}
    assert {"method_state/module/gain", "method_state/module/bias"} < kept
    assert any(path.startswith("method_state/opt_state/") for path in kept)
    one_epoch = json.loads((folder / "4" / "leaves" / "metadata").read_bytes())
    for path in ("method_state/module/gain", "method_state/module/bias", "ema/params/head/bias"):
        assert one_epoch[path] != whole[path], path

    # Validation and everything that opens the run take the teacher.
    teacher, student = load_weights(folder), load_weights(folder, ema=False)
    kernels = [variables["params"]["head"]["kernel"] for variables in (teacher, student)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0
    rows = [
        json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(row["teacher_loss"] > 0 for row in rows if row["split"] == "train")


def test_an_unknown_method_names_those_there_are(tmp_path):
    recipe = make_recipe(tmp_path)
    done = run_here("train.py", recipe, tmp_path / "run", "--config.train.method=svmx")
    assert done.returncode == 2
    assert "config key train.method: found 'svmx', expected supervised" in done.stderr
