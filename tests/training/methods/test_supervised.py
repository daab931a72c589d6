"""The supervised step on a tiny net: accumulation, moving average, randomness, soft targets."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aia_jax.errors import UserError
from aia_jax.training.methods.supervised import make_train_step
from tests.helpers.paths import ROOT
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_net import CLASSES, TinyNet, make_batch, make_state


def assert_trees_close(ours, theirs, **tolerance):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


def test_accumulation_is_the_mean_of_gradients_with_statistics_handed_on():
    """Two micro-batches equal two steps at the same parameters, of which the second goes on from
    the running averages of the first.
    """
    model, tx = TinyNet(), optax.sgd(1.0)
    state, batch, key = make_state(model, tx), make_batch(6), jax.random.key(1)
    new, both = quick_jit(make_train_step(model, tx, accumulate=2))(state, batch, key)

    step = quick_jit(make_train_step(model, tx))
    even, odd = ({name: rows[start::2] for name, rows in batch.items()} for start in (0, 1))
    first, first_metrics = step(state, even, key)
    second, second_metrics = step(state.replace(batch_stats=first.batch_stats), odd, key)
    # SGD at rate 1: mean of gradients = mean of results.
    mean_params = jax.tree.map(lambda a, b: (a + b) / 2, first.params, second.params)
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
    whole, _ = quick_jit(make_train_step(model, tx))(state, batch, key)
    split, _ = quick_jit(make_train_step(model, tx, accumulate=3))(state, batch, key)
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
    step = quick_jit(make_train_step(model, tx))
    state, batch = make_state(model, tx), make_batch(8)

    def loss(state, seed):
        return float(step(state, batch, jax.random.key(seed))[1]["loss"])

    assert loss(state, 0) == loss(state, 0)
    assert loss(state, 0) != loss(state, 1)
    assert loss(state, 0) != loss(state.replace(step=state.step + 1), 0)


def test_moving_average_follows_parameters_and_statistics_and_is_what_evaluation_uses():
    model, tx = TinyNet(), optax.sgd(0.1)
    state = make_state(model, tx, ema=True)
    step = quick_jit(make_train_step(model, tx, ema_decay=0.75), donate_argnums=0)
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
    _, outcome = quick_jit(make_train_step(model, tx))(state, make_batch(4), jax.random.key(0))
    assert np.isnan(outcome["loss"])
    assert outcome["top1"] == 0


def test_micro_batches_stay_on_their_devices():
    """On a mesh of two devices a step over two micro-batches moves no pixel between devices, a
    mixed one those of one clip, and both equal the step on one device.
    """
    program = """
        import re, jax, numpy as np, optax
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from ml_collections import ConfigDict
        from aia_jax.training.methods.supervised import make_train_step
        from aia_jax.training.mixing import make_mix
        from aia_jax.training.objective import Objective
        from tests.helpers.tiny_net import CLASSES, TinyNet, make_batch, make_state

        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        model, tx = TinyNet(dropout=0.5), optax.sgd(0.1)
        arguments = make_state(model, tx), make_batch(8), jax.random.key(0)
        step = make_train_step(model, tx, accumulate=2)
        alone, _ = jax.jit(step)(*arguments)

        whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        shardings = whole, rows, whole
        sharded = [jax.device_put(*pair) for pair in zip(arguments, shardings, strict=True)]
        jitted = jax.jit(step, in_shardings=shardings, out_shardings=whole)
        compiled = jitted.lower(*sharded).compile()
        collectives = "all-gather|all-to-all|collective-permute"
        moved = re.findall(rf"= (\\S+) (?:{collectives})", compiled.as_text())
        assert not moved, moved

        together, _ = compiled(*sharded)
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        jax.tree.map(close, alone, together)

        # Mixed clips have one neighbour on the device before. Draws are those of one device.
        train = ConfigDict(
            dict(mixup=0.8, cutmix=1.0, videomix=1.0, mix_prob=0.9, batch_size=8, accumulate=2)
        )
        step = make_train_step(
            model, tx, accumulate=2, objective=Objective(CLASSES, 0.1), mix=make_mix(train)
        )
        alone, _ = jax.jit(step)(*arguments)
        jitted = jax.jit(step, in_shardings=shardings, out_shardings=whole)
        compiled = jitted.lower(*sharded).compile()
        sizes = re.findall(r"= (?:f32|u8)\\[(\\d+),\\S+ (?:%s)" % collectives, compiled.as_text())
        assert set(sizes) == {"1"}, sizes
        together, _ = compiled(*sharded)
        jax.tree.map(close, alone, together)
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


def test_soft_targets_of_one_class_each_give_the_step_of_the_labels():
    model, tx = TinyNet(), optax.sgd(0.1)
    state, batch, key = make_state(model, tx), make_batch(4), jax.random.key(1)
    soft = batch | {"labels": jax.nn.one_hot(batch["labels"], CLASSES)}
    for accumulate in (1, 2):
        step = quick_jit(make_train_step(model, tx, accumulate=accumulate))
        (of_labels, numbers), (of_shares, soft_numbers) = (
            step(state, batch, key),
            step(state, soft, key),
        )
        assert_trees_close(of_shares.params, of_labels.params, rtol=1e-5, atol=1e-6)
        assert_trees_close(soft_numbers, numbers, rtol=1e-5)
