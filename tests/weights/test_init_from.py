"""Starts from weights: worth it on other classes, refused from what does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.demo.synthetic import CLASSES, PAIRS, draw_scene, render
from aia_jax.errors import UserError
from aia_jax.evaluation.step import make_eval_step
from aia_jax.training.methods.supervised import make_train_step
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.state import TrainState
from aia_jax.weights.files import save_folder
from aia_jax.weights.init_from import check_init_from, initial_variables, load_start
from configs import base

MODEL = create_model(
    4, temporal="tsm", stem="small", width=8, stage_sizes=(1,), fold_div=4, dropout=0.0
)
BATCH = 16


def make_videos(pairs, count, seed):
    """Clips uint8 [count, 4, 16, 16, 3] and labels of these pairs of classes.

    The second class of a pair is the first one reversed.
    """
    rng = np.random.default_rng(seed)
    clips, labels = [], []
    for number in range(count):
        second, which = number % 2, number // 2 % len(pairs)
        scene = draw_scene(pairs[which], rng)
        frames = np.linspace(2, len(scene.x) - 3, 4).astype(int)
        moving = {name: getattr(scene, name)[frames] for name in ("x", "y", "radius", "opacity")}
        clip = render(dataclasses.replace(scene, **moving), rng)[:, 2::4, 2::4]
        clips.append(clip[::-1] if second else clip)
        labels.append(2 * which + second)
    return np.stack(clips), np.array(labels)


def initialise(seed):
    """Variables as `MODEL.init` draws them, without the seconds that its compilation takes."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        names = [part.key for part in path]
        if names[-1] == "kernel":
            fan_out = np.prod(leaf.shape[:2]) * leaf.shape[-1]
            std = 0.001 if "head" in names else (2 / fan_out) ** 0.5
            return rng.normal(0, std, leaf.shape).astype("f4")
        return np.full(leaf.shape, names[-1] in ("scale", "var"), "f4")

    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 1, 16, 16, 3)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def test_half_of_the_classes_helps_the_other_half(tmp_path):
    optim = base.get_config().optim
    optim.update(lr=0.05, lr_batch_size=BATCH, groups=MODEL.optim_groups)
    tx, _ = make_optimizer(optim, 1000, BATCH)
    step, test = jax.jit(make_train_step(MODEL, tx)), jax.jit(make_eval_step(MODEL))

    def train(variables, videos, steps):
        state, (clips, labels) = TrainState.create(variables, tx), videos
        rng = np.random.default_rng(0)
        for _ in range(steps):
            rows = rng.permutation(len(labels))[:BATCH]
            batch = {"clips": clips[rows], "labels": labels[rows]}
            state, _ = step(state, batch, jax.random.key(0))
        return state.eval_variables()

    def evaluate(variables, videos):
        clips, labels = videos
        weights = np.ones(len(labels), "f4")
        sums = test(variables, {"clips": clips, "labels": labels, "weights": weights})
        return float(sums["top1"]) / len(labels), float(sums["loss"]) / len(labels)

    first, second = (0, 2), (1, 3)  # of PAIRS
    pretrained = train(initialise(1), make_videos(first, 160, seed=1), 130)
    names = [name for pair in first for name in PAIRS[pair]]
    save_folder(tmp_path / "weights", pretrained, {"class_names": names})

    fresh = initialise(2)
    others = [name for name in CLASSES if name not in names]
    start, report = load_start(tmp_path / "weights", fresh, MODEL, others)
    assert set(report.fresh) == {"params/head/kernel", "params/head/bias"}
    videos, unseen = make_videos(second, 160, seed=1), make_videos(second, 96, seed=2)
    tuned, tuned_loss = evaluate(train(start, videos, 60), unseen)
    scratch, scratch_loss = evaluate(train(fresh, videos, 60), unseen)
    assert tuned > scratch and tuned_loss < scratch_loss


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"temporal": "tsm", "fold_div": 2}, r"{folder}: .* add --config.model.fold_div=2"),
        ({"temporal": "tsm", "fold_div": 4}, None),
        ({"temporal": "tsn", "fold_div": 2}, None),
    ],
)
def test_weights_of_a_tsm_that_shifts_otherwise_are_refused(tmp_path, shown, expected):
    variables = initialise(1)
    save_folder(tmp_path, variables, {"shown": shown})
    if expected is None:
        _, report = load_start(tmp_path, initialise(2), MODEL, CLASSES[:4])
        assert len(report.notes) == (shown["temporal"] == "tsn")
    else:
        with pytest.raises(UserError, match=expected.format(folder=tmp_path)):
            load_start(tmp_path, initialise(2), MODEL, CLASSES[:4])


@pytest.mark.parametrize(
    "head",
    [
        {"kernel": np.ones((1, 4), "f4"), "bias": np.ones(4, "f4")},
        {"kernel": np.ones((32, 4), "f4")},
        {"kernel": np.ones((32, 4), "f4"), "bias": np.full(4, np.nan, "f4")},
        {"kernel": np.ones((32, 4), bool), "bias": np.ones(4, "f4")},
    ],
)
def test_a_head_of_another_shape_or_without_numbers_is_refused(tmp_path, head):
    """NumPy would spread a kernel of one feature over all of them."""
    variables = initialise(1)
    variables["params"]["head"] = head
    save_folder(tmp_path, variables, {"class_names": CLASSES[:4]})
    with pytest.raises(UserError, match="params/head/"):
        load_start(tmp_path, initialise(2), MODEL, CLASSES[:4])


def test_a_path_that_the_system_does_not_take_names_the_config_key():
    config = base.get_config()
    config.init_from = "x" * 5000
    with pytest.raises(UserError, match=r"config key init_from: .* \(File name too long\)"):
        check_init_from(config, "recipe.py")


def test_weights_that_do_not_fit_show_before_anything_is_compiled(tmp_path, monkeypatch):
    wide = create_model(4, temporal="tsm", stem="small", width=16, stage_sizes=(1,), fold_div=4)
    shapes = jax.eval_shape(wide.init, jax.random.key(0), jnp.zeros((1, 1, 16, 16, 3)))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f4"), shapes)
    save_folder(tmp_path / "wide", variables, {"model": {"name": "resnet"}})
    config = base.get_config()
    config.init_from, config.data.crop = str(tmp_path / "wide"), 16
    compiled, jit = [], jax.jit

    def watch(function, **options):
        compiled.append(getattr(function, "__name__", ""))
        return jit(function, **options)

    monkeypatch.setattr(jax, "jit", watch)
    with pytest.raises(UserError, match="do not fit"):
        initial_variables(config, MODEL, jax.random.key(0), [])
    assert "init" not in compiled
