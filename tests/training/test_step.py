"""The training step on a tiny net: accumulation with BatchNorm, moving average, randomness,
metrics, and the evaluation's padding.
"""

import functools
import os
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.training import metrics
from aia_jax.training.state import TrainState
from aia_jax.training.step import make_eval_step, make_train_step, normalize
from tests.helpers.paths import ROOT

CLASSES = 3


class TinyNet(nn.Module):
    """A clip's mean colour through a dense layer, BatchNorm, dropout and a head."""

    dropout: float = 0.0
    batch_norm: bool = True

    @nn.compact
    def __call__(self, clips, train=False):
        x = nn.Dense(4)(clips.mean((1, 2, 3)))
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return nn.Dense(CLASSES)(x)


def make_batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "clips": jnp.asarray(rng.integers(0, 256, (size, 2, 4, 4, 3), dtype=np.uint8)),
        "labels": jnp.asarray(rng.integers(0, CLASSES, size, dtype=np.int32)),
    }


@functools.cache
def make_variables(model):
    return jax.jit(model.init)(jax.random.key(0), normalize(make_batch(2)["clips"]))


def make_state(model, tx, **options):
    return TrainState.create(jax.tree.map(np.asarray, make_variables(model)), tx, **options)


def assert_trees_close(ours, theirs, **tolerance):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


def test_accumulation_is_the_mean_of_gradients_with_statistics_handed_on():
    """Two micro-batches against two separate steps at the same parameters, the second started from
    the first's running averages.
    """
    model, tx = TinyNet(), optax.sgd(1.0)
    state, batch, key = make_state(model, tx), make_batch(6), jax.random.key(1)
    new, both = jax.jit(make_train_step(model, tx, accumulate=2))(state, batch, key)

    step = jax.jit(make_train_step(model, tx))
    even, odd = ({name: rows[start::2] for name, rows in batch.items()} for start in (0, 1))
    first, first_metrics = step(state, even, key)
    second, second_metrics = step(state.replace(batch_stats=first.batch_stats), odd, key)
    mean_params = jax.tree.map(
        lambda a, b: (a + b) / 2, first.params, second.params
    )  # SGD at rate 1: mean of gradients = mean of results
    assert_trees_close(new.params, mean_params, rtol=1e-5, atol=1e-6)
    assert_trees_close(new.batch_stats, second.batch_stats, rtol=1e-6)
    assert int(new.step) == 1
    for name in ("loss", "top1", "top5"):
        assert float(both[name]) == pytest.approx(
            (float(first_metrics[name]) + float(second_metrics[name])) / 2, rel=1e-6
        )
    grads = jax.tree.map(jnp.subtract, state.params, new.params)
    assert float(both["grad_norm"]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-5)


def test_accumulation_without_batch_norm_equals_one_large_batch():
    model, tx = TinyNet(batch_norm=False), optax.sgd(1.0)
    state, batch, key = make_state(model, tx), make_batch(6), jax.random.key(1)
    whole, _ = jax.jit(make_train_step(model, tx))(state, batch, key)
    split, _ = jax.jit(make_train_step(model, tx, accumulate=3))(state, batch, key)
    assert_trees_close(split.params, whole.params, rtol=1e-5, atol=1e-6)


def test_a_batch_that_cannot_be_split_is_an_error():
    model, tx = TinyNet(), optax.sgd(0.1)
    with pytest.raises(
        UserError, match=r"train\.batch_size=5 cannot be split in train\.accumulate=2"
    ):
        make_train_step(model, tx, accumulate=2)(
            make_state(model, tx), make_batch(5), jax.random.key(0)
        )


def test_randomness_comes_from_the_key_and_the_step_only():
    model, tx = TinyNet(dropout=0.5, batch_norm=False), optax.sgd(0.0)
    step = jax.jit(make_train_step(model, tx))
    state, batch = make_state(model, tx), make_batch(8)

    def loss(state, seed):
        return float(step(state, batch, jax.random.key(seed))[1]["loss"])

    assert loss(state, 0) == loss(state, 0)
    assert loss(state, 0) != loss(state, 1)
    assert loss(state, 0) != loss(state.replace(step=state.step + 1), 0)


def test_moving_average_follows_parameters_and_statistics_and_is_what_evaluation_uses():
    model, tx = TinyNet(), optax.sgd(0.1)
    state = make_state(model, tx, ema=True)
    step = jax.jit(make_train_step(model, tx, ema_decay=0.75), donate_argnums=0)
    expected = jax.tree.map(np.array, {"params": state.params, "batch_stats": state.batch_stats})
    for seed in range(3):
        state, _ = step(state, make_batch(4, seed), jax.random.key(0))
        now = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * np.array(new), expected, now)
    assert_trees_close(state.ema, expected, rtol=1e-5, atol=1e-7)
    assert state.eval_variables() is state.ema
    plain = make_state(model, tx)
    assert plain.ema is None
    assert plain.eval_variables()["params"] is plain.params


def test_a_loss_that_is_not_finite_is_reported():
    model, tx = TinyNet(batch_norm=False), optax.sgd(0.1)
    state = make_state(model, tx)
    state = state.replace(params=jax.tree.map(lambda p: p * jnp.nan, state.params))
    _, outcome = jax.jit(make_train_step(model, tx))(state, make_batch(4), jax.random.key(0))
    assert np.isnan(outcome["loss"])
    assert outcome["top1"] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torch(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 7)).astype("f4"), rng.integers(0, 7, 5)
    ours = metrics.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5)


def test_normalize_is_imagenets():
    pixels = jnp.full((1, 1, 1, 1, 3), 255, jnp.uint8)
    np.testing.assert_allclose(
        normalize(pixels).ravel(),
        [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        rtol=1e-6,
    )


def test_top5_of_three_classes_is_everything():
    logits, labels = jnp.zeros((4, CLASSES)), jnp.asarray([0, 1, 2, 2])
    assert metrics.topk_correct(logits, labels, 5).sum() == 4
    assert metrics.topk_correct(logits, labels, 1).sum() == 1  # of equal logits the lowest class


def test_padding_rows_count_nothing_even_when_they_are_nan():
    model, tx = TinyNet(), optax.sgd(0.1)
    variables = make_state(model, tx).eval_variables()
    batch = {**make_batch(5), "weights": jnp.ones(5)}
    eval_step = jax.jit(make_eval_step(model))
    sums = eval_step(variables, batch)
    padded = {name: jnp.concatenate([rows, rows[:2]]) for name, rows in batch.items()} | {
        "weights": jnp.asarray([1.0] * 5 + [0.0] * 2)
    }
    padded_sums = eval_step(variables, padded)
    assert {name: x.dtype for name, x in sums.items()} == dict.fromkeys(
        ("loss", "top1", "top5", "weight"), jnp.float32
    )
    for name, total in sums.items():
        assert float(padded_sums[name]) == pytest.approx(float(total), rel=1e-6)
    assert float(sums["weight"]) == 5
    assert float(sums["top5"]) == 5

    logits = jnp.asarray([[1.0, 0.0], [jnp.nan, jnp.nan]])
    nan_row = metrics.weighted_sums(logits, jnp.asarray([0, 1]), jnp.asarray([1.0, 0.0]))
    assert np.isfinite(float(nan_row["loss"]))
    assert float(nan_row["top1"]) == 1


def test_micro_batches_stay_on_their_devices():
    """On a mesh of two devices a step over two micro-batches moves no pixel between devices, and
    equals the step on one device.
    """
    program = """
        import re, jax, numpy as np, optax
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from tests.training.test_step import TinyNet, make_batch, make_state, make_train_step
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        model, tx = TinyNet(dropout=0.5), optax.sgd(0.1)
        state, batch, key = make_state(model, tx), make_batch(8), jax.random.key(0)
        step = make_train_step(model, tx, accumulate=2)
        alone, _ = jax.jit(step)(state, batch, key)
        whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        placed = jax.device_put(state, whole), jax.device_put(batch, rows), jax.device_put(key, whole)
        compiled = jax.jit(step, in_shardings=(whole, rows, whole), out_shardings=whole).lower(*placed).compile()
        moved = re.findall(r"= (\\S+) (?:all-gather|all-to-all|collective-permute)", compiled.as_text())
        assert not moved, moved
        together, _ = compiled(*placed)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, together)
        print("same")
    """
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip() == "same", done.stderr[-3000:]
