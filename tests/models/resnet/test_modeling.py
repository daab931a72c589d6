"""The networks as a user meets them: shapes, options, what training changes, what wrong values say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.models.attention.aia import Attention, Combination, Module, parse
from tests.helpers.tiny_variables import drawn

NARROW = {"width": 8, "stage_sizes": (1, 1), "stem": "small"}
EXPRESSIONS = [
    "none",
    "C",
    "ST",
    "C->ST",
    "ST->C",
    "C+ST",
    "CinST",
    "STinC",
    "CinST->STinC",
    "STinC->CinST",
    "CinST+STinC",
]


def clips(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("f4")


def test_parse_reads_chains_of_averages():
    assert parse("none") is None
    assert parse("CinST") == Module("CinST", "C", "ST")
    assert parse("C + ST -> C") == Combination(
        "->",
        (
            Combination("+", (Module("C", None, "C"), Module("ST", None, "ST"))),
            Module("C_2", None, "C"),
        ),
    )


@pytest.mark.parametrize("attention", ["CinST->STinC", "C+ST"])
def test_variables_do_not_depend_on_frames_or_size(attention):
    """Weights trained at T=4 run at T=6 and on other frames; the logits are one float32 row a clip."""
    model = create_model(5, attention=attention, temporal="tsm", **NARROW)
    variables = drawn(model, clips(1, 4, 16, 16))
    other = jax.eval_shape(model.init, jax.random.key(0), clips(2, 6, 12, 20))
    assert jax.tree.map(lambda a: a.shape, variables) == jax.tree.map(lambda a: a.shape, other)
    logits = jax.jit(model.apply)(variables, clips(2, 6, 12, 20))
    assert logits.shape == (2, 5) and logits.dtype == jnp.float32


def test_plain_tsn_ignores_the_order_of_frames_and_attention_does_not():
    x = clips(1, 6, 16, 16)
    for attention, blind in [("none", True), ("C", False), ("ST", False)]:
        model = create_model(3, attention=attention, dropout=0.0, **NARROW)
        variables = drawn(model, x)
        run = jax.jit(lambda v, m=model, s=variables: m.apply(s, v))
        assert np.allclose(run(x), run(x[:, ::-1]), rtol=1e-3, atol=1e-6) == blind, attention


@pytest.mark.parametrize("attention", EXPRESSIONS)
def test_every_expression_has_its_own_parameters(attention):
    """54 weights, a scale and a shift for each unit of each block."""
    units = {"C": 1, "ST": 3, "CinST": 4, "STinC": 4}
    shapes = jax.eval_shape(
        create_model(5, attention=attention, **NARROW).init, jax.random.key(0), clips(1, 2, 8, 8)
    )
    plain = jax.eval_shape(create_model(5, **NARROW).init, jax.random.key(0), clips(1, 2, 8, 8))
    count = lambda tree: sum(a.size for a in jax.tree.leaves(tree["params"]))  # noqa: E731
    expected = (
        0 if attention == "none" else sum(units[m] for m in attention.replace("->", "+").split("+"))
    )
    assert count(shapes) - count(plain) == 2 * 56 * expected


def test_r101_carries_attention_and_shift_on_every_other_block_of_its_long_stage():
    shapes = jax.eval_shape(
        create_model(5, depth=101, attention="C").init, jax.random.key(0), clips(1, 2, 32, 32)
    )["params"]
    carrying = [name for name, block in shapes.items() if "attention" in block]
    assert {name for name in carrying if name.startswith("stage3")} == {
        f"stage3_block{i}" for i in range(0, 23, 2)
    }
    assert len(carrying) == 3 + 4 + 12 + 3


def test_training_mode_updates_every_running_statistic_and_drops_out():
    model = create_model(5, attention="CinST", dropout=0.5, **NARROW)
    x = clips(2, 3, 16, 16)
    variables = drawn(model, x)
    apply = jax.jit(
        lambda key: model.apply(
            variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
    )
    first, updated = apply(jax.random.key(1))
    second, _ = apply(jax.random.key(2))
    assert not np.allclose(first, second)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        variables["batch_stats"],
        updated["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


def test_bfloat16_activations_keep_float32_parameters_and_logits():
    model, reference = (
        create_model(5, attention="STinC", dtype=t, **NARROW) for t in (jnp.bfloat16, jnp.float32)
    )
    x = clips(2, 3, 16, 16)
    variables = drawn(model, x)
    started = jax.eval_shape(model.init, jax.random.key(0), x)
    assert {a.dtype for a in jax.tree.leaves(started)} == {jnp.dtype(jnp.float32)}
    logits = jax.jit(model.apply)(variables, x)
    assert logits.dtype == jnp.float32
    expected = jax.jit(reference.apply)(variables, x)
    assert float(jnp.abs(logits - expected).max()) < 0.05 * float(jnp.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"attention": "CinSTT"}, "CinSTT"),
        ({"attention": "C->"}, "no attention module"),
        ({"temporal": "tsx"}, "tsn, tsm"),
        ({"depth": 18}, "50, 101"),
        ({"stem": "big"}, "imagenet, small"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_wrong_options_name_the_right_ones(options, word):
    with pytest.raises(ValueError, match=word):
        create_model(5, **options)


def test_remat_changes_neither_variables_nor_gradients():
    x = clips(2, 2, 8, 8)
    plain = create_model(3, attention="CinST", temporal="tsm", **NARROW)
    again = plain.clone(remat=(2,))
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

        return jax.jit(jax.grad(loss, has_aux=True))

    blocks = [
        len(re.findall("remat|checkpoint", str(gradients(model).trace(variables["params"]).jaxpr)))
        for model in (plain, again)
    ]
    assert blocks[0] == 0 < blocks[1]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        *(gradients(model)(variables["params"]) for model in (plain, again)),
    )


def test_what_is_not_a_number_is_not_hidden_by_pools_or_gates():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 6, 6, 16)).astype("f4")
    x[0, 1, 2, 3, 4] = np.nan
    attention = Attention("C")
    variables = drawn(attention, x, False)
    seen = np.isnan(attention.apply(variables, x, False))
    expected = np.zeros(x.shape, bool)
    expected[0, :3, 1:4, 2:5] = True  # wherever the stencil sees the pooled plane's element
    np.testing.assert_array_equal(seen, expected)

    def in_training(x):
        y, _ = Attention("CinST->STinC").apply(variables, x, True, mutable=["batch_stats"])
        return y.sum(), y

    variables = drawn(Attention("CinST->STinC"), x, False)
    y = jax.jit(jax.grad(in_training, has_aux=True))(x)[1]
    assert np.isnan(y).all()  # by the batch's statistics
