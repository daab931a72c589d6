"""The ResNet as a user meets it: shapes, options, and what training changes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.models.attention import MODULES, AttentionModule
from aia_jax.models.resnet.bottleneck import Bottleneck
from aia_jax.models.resnet.modeling import PAPER_ATTENTIONS
from aia_jax.shapes import Array
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_variables import drawn

NARROW = {"width": 8, "stage_sizes": (1, 1), "stem": "small"}


def clips(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("f4")


def shapes(**fields):
    """Shapes of the variables of a network with 5 classes."""
    model = create_model(5, **fields)
    return jax.eval_shape(model.init, jax.random.key(0), clips(1, 2, 8, 8))


def in_training(model, variables, x, key=0, method=None):
    """Output and new statistics, compiled."""
    run = functools.partial(
        model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(key)}
    )
    return quick_jit(functools.partial(run, method=method))(variables, x)


@pytest.mark.parametrize("attention", ["CinST->STinC", "C+ST"])
def test_variables_do_not_depend_on_frames_or_size(attention):
    """Weights trained at T=4 run at T=6 and on other frames; logits are a float32 row a clip."""
    model = create_model(5, attention=attention, temporal="tsm", **NARROW)
    variables = drawn(model, clips(1, 4, 16, 16))
    other = jax.eval_shape(model.init, jax.random.key(0), clips(2, 6, 12, 20))
    assert jax.tree.map(lambda a: a.shape, variables) == jax.tree.map(lambda a: a.shape, other)
    logits = jax.eval_shape(model.apply, variables, clips(2, 6, 12, 20))
    assert logits.shape == (2, 5) and logits.dtype == jnp.float32


@pytest.mark.parametrize(("attention", "blind"), [("none", True), ("C", False), ("ST", False)])
def test_plain_tsn_ignores_the_order_of_frames_and_attention_does_not(attention, blind):
    model = create_model(3, attention=attention, **{**NARROW, "stage_sizes": (1,)})
    x = clips(1, 6, 8, 8)
    variables = drawn(model, x)
    run = quick_jit(model.apply)
    forwards, backwards = run(variables, x), run(variables, x[:, ::-1])
    assert np.allclose(forwards, backwards, rtol=1e-3, atol=1e-6) == blind


def test_every_expression_has_its_own_parameters():
    """54 weights, a scale and a shift for each unit of each block."""
    units = {"C": 1, "ST": 3, "CinST": 4, "STinC": 4}
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))  # noqa: E731
    plain = size(shapes(**NARROW))
    for attention in PAPER_ATTENTIONS[1:]:
        expected = sum(units[name] for name in attention.replace("->", "+").split("+"))
        added = size(shapes(attention=attention, **NARROW)) - plain
        assert added == 2 * 56 * expected, attention


def test_r101_has_attention_and_shift_in_every_other_block_of_its_long_stage():
    params = shapes(depth=101, attention="C", stem="small", width=8)["params"]
    attentive = [name for name, block in params.items() if "attention" in block]
    assert {name for name in attentive if name.startswith("stage3")} == {
        f"stage3_block{i}" for i in range(0, 23, 2)
    }
    assert len(attentive) == 3 + 4 + 12 + 3


def test_training_mode_updates_every_running_statistic_and_drops_out():
    model = create_model(5, attention="CinST", dropout=0.5, **{**NARROW, "stage_sizes": (1,)})
    x = clips(2, 3, 8, 8)
    variables = drawn(model, x)
    first, updated = in_training(model, variables, x, key=1)
    second, _ = in_training(model, variables, x, key=2)
    assert not np.allclose(first, second)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        variables["batch_stats"],
        updated["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


def test_bfloat16_activations_keep_float32_parameters_and_logits():
    model, reference = (
        create_model(5, attention="STinC", dtype=dtype, **{**NARROW, "stage_sizes": (1,)})
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    x = clips(2, 3, 8, 8)
    variables = drawn(model, x)
    started = jax.eval_shape(model.init, jax.random.key(0), x)
    assert {a.dtype for a in jax.tree.leaves(started)} == {jnp.dtype(jnp.float32)}
    features = jax.eval_shape(functools.partial(model.apply, method="features"), variables, x)
    assert features.dtype == jnp.bfloat16
    logits = quick_jit(model.apply)(variables, x)
    assert logits.dtype == jnp.float32
    expected = quick_jit(reference.apply)(variables, x)
    assert float(jnp.abs(logits - expected).max()) < 0.05 * float(jnp.abs(expected).max())


@pytest.mark.parametrize("train", [False, True])
def test_the_logits_are_the_heads_of_the_pooled_features(train):
    model = create_model(5, attention="C", temporal="tsm", dropout=0.0, **NARROW)
    x = clips(2, 3, 8, 12)
    variables = drawn(model, x)
    if train:
        features, statistics = in_training(model, variables, x, method="features")
        logits, expected = in_training(model, variables, x)
        jax.tree.map(np.testing.assert_array_equal, statistics, expected)
    else:
        features = quick_jit(functools.partial(model.apply, method="features"))(variables, x)
        logits = quick_jit(model.apply)(variables, x)
    assert features.shape == (2, 3, 4, 6, 4 * 16)
    head = variables["params"]["head"]
    by_hand = (np.asarray(features).mean((2, 3)) @ head["kernel"] + head["bias"]).mean(1)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)


def test_features_need_no_dropout_key_in_training():
    model = create_model(5, dropout=0.5, **NARROW)
    x = clips(1, 2, 8, 8)
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"], method="features")
    features, updated = jax.eval_shape(apply, shapes(**NARROW), x)
    assert features.shape == (1, 2, 4, 4, 64) and "batch_stats" in updated


class Probe(nn.Module):
    """Attention that shows its input and returns zeros."""

    bn_momentum: float
    bn_group_size: int
    relu: bool

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        self.sow("intermediates", "input", x)
        self.sow("intermediates", "relu", self.relu)
        return 0 * x


@pytest.mark.parametrize(
    ("site", "shape", "rectified", "relu"),
    [
        ("after_conv1", (1, 2, 6, 6, 4), True, False),
        ("after_conv2", (1, 2, 3, 3, 4), False, True),
        ("after_conv3", (1, 2, 3, 3, 16), False, False),
    ],
)
def test_attention_acts_at_its_site(monkeypatch, site, shape, rectified, relu):
    monkeypatch.setitem(MODULES, "Probe", AttentionModule(site, Probe))
    block = Bottleneck(width=4, stride=2, attention="Probe")
    x = np.random.default_rng(0).normal(size=(1, 2, 6, 6, 8)).astype("f4")
    variables = drawn(block, x, False)
    y, seen = block.apply(variables, x, False, mutable=["intermediates"])
    (probe,) = seen["intermediates"]["attention"].values()
    (found,), (found_relu,) = probe["input"], probe["relu"]
    assert (found.shape, found_relu) == (shape, relu)
    assert bool((found >= 0).all()) == rectified
    # What the attention returns goes on: zeros, here.
    without = block.clone(attention="none").apply(variables, x, False)
    assert not np.allclose(y, without)
    if site == "after_conv3":  # only the shortcut is left
        conv, norm = variables["params"]["shortcut_conv"], variables["params"]["shortcut_bn"]
        running = variables["batch_stats"]["shortcut_bn"]
        shortcut = x[:, :, ::2, ::2] @ conv["kernel"][0, 0]
        scaled = (shortcut - running["mean"]) / np.sqrt(running["var"] + 1e-5) * norm["scale"]
        np.testing.assert_allclose(y, np.maximum(scaled + norm["bias"], 0), rtol=1e-4, atol=1e-5)


def test_remat_computes_every_block_of_its_stages_again():
    x = clips(2, 2, 8, 8)
    variables = shapes(**{**NARROW, "stage_sizes": (1, 2)})

    def blocks(remat, train):
        model = create_model(5, **{**NARROW, "stage_sizes": (1, 2)}, remat=remat, dropout=0.0)
        run = functools.partial(model.apply, train=train, mutable=["batch_stats"])
        equations = jax.make_jaxpr(run)(variables, x).eqns
        return sum(equation.primitive.name in ("checkpoint", "remat2") for equation in equations)

    assert [blocks(remat, True) for remat in [(), (1,), (2,), (1, 2)]] == [0, 1, 2, 3]
    assert blocks((1, 2), False) == 0


def test_remat_changes_neither_variables_nor_gradients():
    x = clips(2, 2, 8, 8)
    plain = create_model(3, attention="C", temporal="tsm", **{**NARROW, "stage_sizes": (1,)})
    again = plain.clone(remat=(1,))
    variables = drawn(plain, x)
    assert jax.tree.structure(variables) == jax.tree.structure(
        jax.eval_shape(lambda key: again.init(key, x, True), jax.random.key(0))
    )

    def gradients(model):
        def loss(params):
            rngs = {"dropout": jax.random.key(1)}
            logits, mutated = model.apply(
                {**variables, "params": params}, x, train=True, rngs=rngs, mutable=["batch_stats"]
            )
            return (logits**2).sum(), mutated

        return quick_jit(jax.grad(loss, has_aux=True))(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        gradients(plain),
        gradients(again),
    )
