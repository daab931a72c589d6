"""SV-Mix: two steps against the authors' trainer, any network on any mesh, exact resume."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aia_jax import config as configs
from aia_jax import create_model
from aia_jax.checkpoints.files import load_weights
from aia_jax.errors import UserError
from aia_jax.models import clip_shape, model_from_config, network_of
from aia_jax.training.freezing import nothing_frozen
from aia_jax.training.methods import make_method, svmix
from aia_jax.training.objective import Objective
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.state import TrainState
from aia_jax.weights import from_torch
from aia_jax.weights.names import match_variables
from tests.golden import recipe
from tests.helpers.golden_steps import with_head_of
from tests.helpers.optim import optim_fields
from tests.helpers.paths import GOLDEN, ROOT
from tests.helpers.quick_jit import quick_jit
from tests.helpers.svmix_golden import CLIPS, LABELS, STEPS, module_variables
from tests.helpers.tiny_run import make_recipe, run_here
from tests.test_sharding import output, start

GROUPS = (
    ("head/kernel", {"lr": 5.0}),
    ("head/bias", {"lr": 10.0, "decay": 0.0}),
    (".*/kernel", {}),
    (r".*/(scale|bias)", {"decay": 0.0}),
)


def golden_weights(prefix, model):
    shapes = json.loads((GOLDEN / "aia_state_dict_shapes.json").read_text())["C2D"]
    state_dict = {
        key: recipe.tensor(prefix + key.removeprefix("base_model."), shape)
        for key, shape in with_head_of(shapes, 10).items()
    }
    return jax.tree.map(lambda leaf: np.float64(leaf), from_torch(state_dict, model))


def golden_draws(drawn):
    return svmix.Draws(
        share=jnp.float64(drawn["share"]),
        partner=jnp.asarray(drawn["partner"]),
        mixes=jnp.ones((), bool),
        temporal=jnp.asarray(drawn["temporal"]),
        module_share=jnp.float64(drawn["module_share"]),
        module_partner=jnp.asarray(drawn["module_partner"]),
    )


def in_torchs_layout(variables, model):
    """The authors' key, as the golden names have it, → array."""
    names = network_of(model).torch_names
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    return {
        names.reference_key(key, model).removeprefix("base_model."): target.revert(
            leaves[target.variable]
        )
        for key, target in match_variables(variables, model).items()
    }


def unbiased(variance, first, forwards, key):
    """A running variance as torch keeps it, after so many forward passes from `first`."""
    height, width = (32, 48) if key.startswith("bn1") else (2, 3)
    n = CLIPS[0] * CLIPS[1] * height * width
    started = first * np.float64(0.9) ** forwards
    return started + (variance - started) * n / (n - 1)


def test_two_steps_equal_the_authors_trainer(record_property):
    """Losses, penalty, gradient norms, and network, teacher and module afterwards, in float64."""
    errors = {}
    with jax.enable_x64(True):
        model = create_model(10, 4, temporal="tsm", dropout=0.0, dtype=jnp.float64)
        student, teacher = (
            golden_weights(p, model) for p in ("base_model.", "teacher.base_model.")
        )
        optim = optim_fields(lr=0.01, lr_batch_size=3, clip_norm=20.0, groups=GROUPS)
        tx, _ = make_optimizer(optim, steps_per_epoch=100, global_batch=3)
        module_tx = optax.chain(
            optax.add_decayed_weights(1e-4), optax.trace(0.9), optax.scale(-0.0005)
        )
        module = module_variables("svmix", 2048, scale=0.25)
        state = TrainState.create(
            student, tx, method_state={"module": module, "opt_state": module_tx.init(module)}
        ).replace(ema=teacher)
        batch = {"clips": jnp.float64(recipe.clips(*CLIPS)), "labels": jnp.asarray(LABELS)}

        @jax.jit
        def run(state, draws):
            step = svmix.make_svmix_step(
                model,
                tx,
                module_tx,
                Objective(10, label_smoothing=0.1),
                draw=lambda key, rows: draws,
                preprocess=lambda clips: clips,
            )
            return step(state, batch, jax.random.key(0))

        for number, (golden, drawn) in STEPS.items():
            state, metrics = run(state, golden_draws(drawn))
            found = {
                "loss": metrics["loss"],
                "teacher loss": metrics["teacher_loss"],
                "penalty": metrics["mask_penalty"],
                "gnorm": metrics["grad_norm"],
            }
            networks = {
                "student": ({"params": state.params, "batch_stats": state.batch_stats}, student, 1),
                "teacher": (state.ema, teacher, 2),
            }
            for name, (variables, start, forwards) in networks.items():
                first = in_torchs_layout(start, model)
                for key, value in in_torchs_layout(variables, model).items():
                    if key.endswith("running_var"):
                        value = unbiased(value, first[key], forwards * int(number), key)
                    found[f"after {name} {key}"] = value
            for layer, values in state.method_state["module"].items():
                found[f"after module {layer}.weight"] = values["kernel"].T
                found[f"after module {layer}.bias"] = values["bias"]
            for name in golden.keys() & found.keys():
                ours, theirs = np.ravel(found[name])[: golden[name].size], golden[name].ravel()
                scale = max(np.abs(theirs).max(), 1e-9)
                errors[f"{number} {name}"] = float(np.abs(ours - theirs).max() / scale)
    record_property("largest relative error", max(errors.values()))
    assert len(errors) == 46, len(errors)
    assert max(errors.values()) < 1e-9, sorted(errors.items(), key=lambda item: -item[1])[:8]


@pytest.mark.parametrize("number", STEPS)
def test_mixed_clips_equal_the_authors(number):
    golden, drawn = STEPS[number]
    clips = recipe.clips(*CLIPS).astype("f8")
    with jax.enable_x64(True):
        for mask, mixed, partner in (
            ("mask before clamp", "mixed", drawn["partner"]),
            ("mask2 before clamp", "mixed2", drawn["module_partner"]),
        ):
            found = svmix.mix_clips(
                jnp.asarray(clips), jnp.asarray(partner), jnp.asarray(golden[mask])
            )
            in_torchs_order = np.asarray(found).transpose(0, 1, 4, 2, 3).ravel()
            np.testing.assert_allclose(in_torchs_order[:300], golden[mixed], rtol=1e-12)
            np.testing.assert_allclose(
                np.linalg.norm(in_torchs_order), golden[f"{mixed} norm"], rtol=1e-12
            )


def test_draws_are_of_the_authors_distributions():
    keys = jax.random.split(jax.random.key(0), 1500)
    draws = jax.vmap(lambda key: svmix.draw_mixes(key, 4, "both", 0.75))(keys)
    assert abs(draws.mixes.mean() - 0.75) < 0.04
    assert abs(draws.temporal.mean() - 0.5) < 0.05
    # The variance of Beta(α, α) is 1 / (4·(2α + 1)).
    for mode, alpha in ((False, 1.0), (True, 0.8)):
        shares = np.asarray(draws.share)[np.asarray(draws.temporal) == mode]
        assert abs(shares.var() - 1 / (4 * (2 * alpha + 1))) < 0.01
    assert abs(draws.module_share.var() - 1 / 12) < 0.01
    assert (np.sort(draws.partner, axis=1) == np.arange(4)).all()
    assert len(np.unique(np.asarray(draws.partner), axis=0)) == 24
    for mode, is_temporal in (("spatial", False), ("temporal", True)):
        fixed = jax.vmap(lambda key, mode=mode: svmix.draw_mixes(key, 4, mode, 1.0))(keys[:50])
        assert (fixed.temporal == is_temporal).all()
        assert fixed.mixes.all()


NARROW = {
    "tsm": ("model.width=8", "model.stage_sizes=1,1"),
    "h2cn": ("model.width=8", "model.stage_sizes=1,1"),
    "msca_kv": ("model.layers=2", "model.image_size=32,32"),
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


@pytest.mark.parametrize("network", NARROW)
def test_any_network_with_features_is_trained(network):
    config = narrow_config(network)
    model, method = method_of(config)
    clips = jnp.zeros((1, *clip_shape(model, 32)))
    variables = quick_jit(model.init)(jax.random.key(0), clips)
    state = method.create(variables, jax.random.key(2))
    step = quick_jit(method.step)
    after, metrics = step(state, batch_of(model), jax.random.key(3))
    again, same = step(state, batch_of(model), jax.random.key(3))
    assert all(np.isfinite(value) for value in metrics.values())
    jax.tree.map(np.testing.assert_array_equal, (after, metrics), (again, same))

    def moved(a, b):
        return [
            float(jnp.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
        ]

    module = state.method_state["module"]
    assert min(moved(after.method_state["module"]["query"], module["query"])[1:]) > 0
    assert min(moved(after.method_state["module"]["value"], module["value"])) > 0
    assert max(moved(after.params, state.params)) > 0
    # The teacher starts as the network and takes a thousandth of each of its steps.
    expected = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b, state.params, after.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
        after.ema["params"],
        expected,
    )


def test_micro_batches_move_the_teacher_each_and_the_network_once():
    """Two micro-batches in a step; the same by hand, one after another, with the step's draws."""
    config = narrow_config("msca_kv", "train.accumulate=2", "optim.clip_norm=0")
    model, method = method_of(config)
    clips = jnp.zeros((1, *clip_shape(model, 32)))
    variables = quick_jit(model.init)(jax.random.key(0), clips)
    state = method.create(variables, jax.random.key(2))
    # A teacher that has left the network, so that its averages show.
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 0.1, state.ema))
    after, metrics = quick_jit(method.step)(state, batch_of(model), jax.random.key(3))

    def average(old, new):
        return jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b, old, new)

    # After the first micro-batch the network has not moved yet.
    expected = average(average(state.ema["params"], state.params), after.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
        after.ema["params"],
        expected,
    )
    assert int(after.step) == 1
    assert np.isfinite(metrics["teacher_loss"])


ON_FOUR_DEVICES = """
    import jax, jax.numpy as jnp, numpy as np, optax
    from aia_jax import create_model
    from aia_jax.sharding import batch_shardings, make_mesh, on_mesh, replicated, state_shardings
    from aia_jax.training.methods.svmix import draw_mixes, make_svmix_step
    from aia_jax.training.objective import Objective
    from aia_jax.training.selective_module import SelectiveModule
    from aia_jax.training.state import TrainState

    model = create_model(3, 4, temporal="tsm", width=8, stage_sizes=(1,), stem="small", dropout=0.0)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 4, 8, 8, 3), "f4"))
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.2, 0.8, leaf.shape).astype("f4"), shapes)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    tx = module_tx = optax.sgd(0.05, momentum=0.9)
    features = jnp.zeros((1, 1, 1, 1, 32))
    module = SelectiveModule(32).init(
        jax.random.key(5), features, features, jnp.float32(0.5), jnp.zeros((), bool)
    )["params"]
    kept = {"module": module, "opt_state": module_tx.init(module)}
    state = TrainState.create(variables, tx, ema=True, method_state=kept)
    batch = {
        "clips": rng.integers(0, 256, (4, 4, 8, 8, 3), np.uint8), "labels": np.array([0, 1, 2, 0])
    }
    step = make_svmix_step(
        model, tx, module_tx, Objective(3, 0.1), accumulate=ACCUMULATE,
        draw=lambda key, rows: draw_mixes(key, rows, "both", 1.0),
    )
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
    program = ON_FOUR_DEVICES.replace("ACCUMULATE", "2")
    output(start(program, 4, JAX_DISABLE_MOST_OPTIMIZATIONS="true"))


def test_a_run_resumes_exactly_and_its_teacher_is_evaluated(tmp_path):
    recipe_file = make_recipe(tmp_path)
    settings = ["train.method=svmix", "train.accumulate=2", "svmix.ema_decay=0.9"]
    settings += ["train.label_smoothing=0.1"]

    def run(workdir, epochs):
        overrides = [f"--config.{setting}" for setting in (*settings, f"train.epochs={epochs}")]
        done = run_here("train.py", recipe_file, tmp_path / workdir, *overrides)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / workdir / "checkpoints"
        return folder, json.loads((folder / str(4 * epochs) / "leaves" / "metadata").read_bytes())

    run("parts", 1)
    _, in_two_parts = run("parts", 2)
    folder, whole = run("whole", 2)
    assert in_two_parts == whole  # shapes and digests of all leaves
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
        (("train.batch_size=1",), "expected at least 2 a part"),
        (("train.accumulate=4",), "expected at least 2 a part"),
        (("train.mixup=0.8",), "train.mixup: found 0.8 with train.method=svmix"),
        (("train.ema_decay=0.9",), "train.ema_decay: found 0.9 with train.method=svmix"),
        (("data.num_frames=1",), "set it to spatial"),
    ],
)
def test_what_has_no_meaning_is_one_line(more, says):
    config = narrow_config("tsm", *more)
    with pytest.raises(UserError, match=says):
        method_of(config)


def test_several_labels_and_networks_without_features_are_refused():
    config = narrow_config("tsm")
    with pytest.raises(UserError, match="these data have several"):
        make_method(
            config,
            model_from_config(config),
            optax.sgd(0.1),
            nothing_frozen,
            Objective(4, multilabel=True),
        )

    class Bare(nn.Module):
        pass

    with pytest.raises(UserError, match="Bare has no `features`"):
        make_method(config, Bare(), optax.sgd(0.1), nothing_frozen, Objective(4))
