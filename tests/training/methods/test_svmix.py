"""SV-Mix on any network and any mesh, its exact resume, and what it refuses."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aia_jax import config as configs
from aia_jax.checkpoints.files import load_weights
from aia_jax.errors import UserError
from aia_jax.models import clip_shape, model_from_config
from aia_jax.training.freezing import nothing_frozen
from aia_jax.training.methods import make_method
from aia_jax.training.objective import Objective
from aia_jax.training.optimizer import make_optimizer
from tests.helpers.killed_run import kill_run
from tests.helpers.paths import ROOT
from tests.helpers.processes import output, start
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_run import make_recipe, run_here
from tests.helpers.tiny_variables import drawn

NARROW = {
    "tsm": ("model.width=8", "model.stage_sizes=1"),
    "h2cn": ("model.width=8", "model.stage_sizes=1"),
    "gst": ("model.width=8", "model.stage_sizes=1"),
    "c3d": ("model.width=8", "model.stage_sizes=1"),
    "msca_kv": ("model.layers=1", "model.image_size=32,32", "train.accumulate=2"),
}


def narrow_config(network, *more):
    """The demo's recipe of a network, narrower, with four clips a step."""
    settings = ["init_from=scratch", "data.num_classes=4", "data.num_frames=2", "data.crop=32"]
    settings += ["train.batch_size=4", "train.method=svmix", *NARROW[network], *more]
    return configs.load(ROOT / "configs" / f"demo.py:{network}", settings)


def method_of(config, num_classes=4):
    config.data.num_classes = num_classes
    model = model_from_config(config)
    tx, _ = make_optimizer(config.optim, steps_per_epoch=4, global_batch=4)
    return model, make_method(config, model, tx, nothing_frozen, Objective(num_classes))


def batch_of(model, rows=4):
    frames = model.num_frames * model.segment_frames
    clips = jax.random.randint(jax.random.key(1), (rows, frames, 32, 32, 3), 0, 256)
    return {"clips": clips.astype(jnp.uint8), "labels": jnp.arange(rows)}


@pytest.mark.parametrize("network", ["h2cn", "gst", "c3d", "msca_kv"])
def test_a_step_moves_network_module_and_teacher(network):
    """Clips of segments, convolutions over time, a vision transformer in two micro-batches."""
    config = narrow_config(network)
    model, method = method_of(config)
    clips = jnp.zeros((1, *clip_shape(model, 32)))
    variables = drawn(model, clips)
    variables["params"]["head"]["bias"] *= 0  # as of a fresh head
    state = quick_jit(method.create)(variables, jax.random.key(2))
    teacher, network = dict(state.ema["params"]), dict(state.params)
    assert (teacher.pop("head")["kernel"] != network.pop("head")["kernel"]).all()  # its own
    jax.tree.map(np.testing.assert_array_equal, teacher, network)
    # A teacher that has left the network, so that its averages show.
    teacher = jax.tree.map(lambda leaf: leaf + 0.1, state.ema["params"])
    state = state.replace(ema={**state.ema, "params": teacher})

    step = quick_jit(method.step)
    after, metrics = step(state, batch_of(model), jax.random.key(3))
    again, same = step(state, batch_of(model), jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, (after, metrics), (again, same))
    assert all(np.isfinite(value) for value in metrics.values())
    assert int(after.step) == 1

    def largest_move(a, b):
        return max(
            float(jnp.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
        )

    assert largest_move(after.params, state.params) > 0
    for layer in ("query", "value"):
        modules = after.method_state["module"], state.method_state["module"]
        assert largest_move(*(module[layer] for module in modules)) > 0

    def average(old, new):
        return jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b, old, new)

    # The network moves after the last micro-batch, the teacher after each.
    expected = teacher
    for _ in range(config.train.accumulate - 1):
        expected = average(expected, state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
        after.ema["params"],
        average(expected, after.params),
    )


ON_FOUR_DEVICES = """
    import jax, numpy as np, optax
    from aia_jax import create_model
    from aia_jax.sharding import batch_shardings, make_mesh, on_mesh, replicated, state_shardings
    from aia_jax.training.methods.svmix import (
        create_state, make_module_optimizer, make_svmix_step
    )
    from aia_jax.training.objective import Objective

    model = create_model(3, 4, temporal="tsm", width=8, stage_sizes=(1,), stem="small", dropout=0.0)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 4, 8, 8, 3), "f4"))
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.2, 0.8, leaf.shape).astype("f4"), shapes)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    tx, module_tx = optax.sgd(0.05, momentum=0.9), make_module_optimizer(0.05)
    state = create_state(model, tx, module_tx, variables, jax.random.key(5))
    module = state.method_state["module"]
    batch = {
        "clips": rng.integers(0, 256, (4, 4, 8, 8, 3), np.uint8), "labels": np.array([0, 1, 2, 0])
    }
    step = make_svmix_step(model, tx, module_tx, Objective(3, 0.1))
    key = jax.random.key(3)  # not every clip is its own partner
    expected = jax.jit(step)(state, batch, key)
    mesh = make_mesh({"data": 1, "fsdp": 2, "time": 2})
    shardings, on_every_device = state_shardings(mesh, state, min_size=64), replicated(mesh)
    arguments = (
        jax.device_put(state, shardings),
        jax.device_put(batch, batch_shardings(mesh, batch)),
        jax.device_put(key, on_every_device),
    )
    found = jax.jit(on_mesh(mesh, step), out_shardings=(shardings, on_every_device))(*arguments)
    assert found[0].ema["params"]["head"]["kernel"].addressable_shards[0].data.shape == (16, 3)
    moved = jax.tree.map(
        lambda a, b: float(abs(a - b).max()), expected[0].method_state["module"], module
    )
    assert moved["value"]["kernel"] > 1e-6, moved
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-6),
        jax.tree.leaves(found), jax.tree.leaves(expected),
    )
"""


def test_a_step_is_the_same_on_a_mesh():
    """Rows and parameters, the teacher's too, are split over `fsdp`, frames over `time`."""
    output(start(ON_FOUR_DEVICES, 4, JAX_DISABLE_MOST_OPTIMIZATIONS="true"))


def test_killed_at_any_moment_a_run_ends_as_if_it_had_never_been(tmp_path):
    """Of the run that nobody disturbed the teacher is evaluated."""
    recipe_file = make_recipe(tmp_path)
    settings = ["train.method=svmix", "train.accumulate=2", "svmix.ema_decay=0.9"]
    settings += ["train.label_smoothing=0.1", "train.epochs=2", "train.checkpoint_every=3"]
    overrides = [f"--config.{setting}" for setting in settings]

    def run(workdir):
        done = run_here("train.py", recipe_file, tmp_path / workdir, *overrides)
        assert done.returncode == 0, done.stderr
        assert "SV-Mix, spatial and temporal masks" in done.stdout  # the start table
        note = "at the last of 8 steps 19% of the moving average that is tested are its first"
        assert note in done.stdout + done.stderr
        folder = tmp_path / workdir / "checkpoints"
        return folder, json.loads((folder / "8" / "leaves" / "metadata").read_bytes())

    folder, whole = run("whole")
    kill_run(recipe_file, tmp_path / "killed", *overrides, times=2)
    _, killed = run("killed")
    assert killed == whole  # shapes and digests of all leaves
    assert {"method_state/module/query/kernel", "ema/params/head/bias"} < whole.keys()

    teacher, network = load_weights(folder), load_weights(folder, ema=False)
    kernels = [variables["params"]["head"]["kernel"] for variables in (teacher, network)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0
    rows = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, rows) if row["split"] == "train"]
    assert all(row["teacher_loss"] > 0 and row["mask_penalty"] >= 0 for row in rows)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("train.batch_size=1",), "another: use at least 2"),
        (("train.accumulate=4",), "another: use at least 8"),
        (("train.mixup=0.8",), "train.mixup: found 0.8 with train.method=svmix"),
        (("train.ema_decay=0.9",), "train.ema_decay: found 0.9 with train.method=svmix"),
        (("data.num_frames=1",), "use svmix.mode=spatial"),
    ],
)
def test_what_has_no_meaning_is_one_line(more, says):
    config = narrow_config("tsm", *more)
    with pytest.raises(UserError, match=says):
        method_of(config)


def test_several_labels_and_networks_without_features_are_refused():
    config = narrow_config("tsm")
    with pytest.raises(UserError, match="these videos have several"):
        make_method(
            config,
            model_from_config(config),
            optax.sgd(0.1),
            nothing_frozen,
            Objective(4, multilabel=True),
        )

    class Bare(nn.Module):
        pass

    with pytest.raises(UserError, match="needs a network with a method `features`"):
        make_method(config, Bare(), optax.sgd(0.1), nothing_frozen, Objective(4))
