"""The ViT as a user meets it: shapes, shifts, options, sizes, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.complexity import count
from aia_jax.errors import UserError
from aia_jax.evaluation.gradcam import grad_cam, list_layers
from aia_jax.models.fields import FieldError
from aia_jax.models.vit.shift import SHIFTS
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_variables import drawn

NARROW = {
    "name": "vit",
    "size": "",
    "width": 24,
    "layers": 2,
    "heads": 4,
    "mlp_dim": 32,
    "patch": 4,
    "image_size": (8, 12),
}


def clips(batch, frames):
    return np.random.default_rng(0).normal(size=(batch, frames, 8, 12, 3)).astype("f4")


def narrow(**fields):
    return create_model(5, **{**NARROW, **fields})


@functools.cache
def variables():
    """Those of every shift and every T."""
    return drawn(narrow(), clips(1, 2))


def shapes(model):
    return jax.tree.map(jnp.shape, jax.eval_shape(model.init, jax.random.key(0), clips(1, 3)))


def run(model, method=None):
    """Operation by operation: the tests share most of what is compiled."""
    return model.apply(variables(), clips(2, 4), method=method)


def test_neither_frames_nor_shift_change_the_variables():
    expected = jax.tree.map(jnp.shape, variables())
    assert set(expected) == {"params"}
    assert all(shapes(narrow(shift=shift)) == expected for shift in SHIFTS)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_shows_a_frame_its_neighbours_and_without_one_it_sees_itself(shift):
    """Which embeddings change with the second of five frames."""
    model = narrow(shift=shift)
    changed = clips(1, 5)
    changed[:, 1] += 1
    before, after = (
        model.apply(variables(), each, method="embed") for each in (clips(1, 5), changed)
    )
    assert before.shape == (1, 5, 24) and before.dtype == jnp.float32
    found = set(np.flatnonzero((before != after).any((0, 2))).tolist())
    assert found == {1} if shift == "none" else found >= {0, 1, 2}


def test_a_larger_share_moves_more_heads():
    one, two, default = (run(narrow(shift="KV", shift_div=div)) for div in (4, 2, 0))
    np.testing.assert_array_equal(one, default)
    assert not np.allclose(one, two)
    quarter, half, default = (run(narrow(shift="token", shift_div=div)) for div in (4, 2, 0))
    np.testing.assert_array_equal(quarter, default)
    assert not np.allclose(quarter, half)


def test_the_logits_are_the_heads_of_the_class_tokens_and_features_the_patches():
    model = narrow(shift="KV")
    embeddings, features, logits = run(model, "embed"), run(model, "features"), run(model)
    head = variables()["params"]["head"]
    by_hand = (embeddings @ head["kernel"] + head["bias"]).mean(1)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)
    assert features.shape == (2, 4, 2, 3, 24)

    _, sown = model.apply(variables(), clips(2, 4), capture_intermediates=True)
    tokens = sown["intermediates"]["norm"]["__call__"][0]
    patches = tokens.reshape(2, 4, 7, 24)[:, :, 1:].reshape(features.shape)
    np.testing.assert_array_equal(features, patches)
    np.testing.assert_array_equal(model.frame_map(tokens, (2, 4, 8, 12, 3)), patches)


def test_dropout_acts_before_the_head_in_training_only():
    model = narrow(dropout=0.5)
    apply = functools.partial(model.apply, train=True)
    first, second = (
        apply(variables(), clips(2, 4), rngs={"dropout": jax.random.key(key)}) for key in (1, 2)
    )
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(run(model), run(narrow()))


def test_bfloat16_activations_keep_float32_parameters_and_logits():
    model = narrow(shift="token", dtype=jnp.bfloat16)
    started = jax.eval_shape(model.init, jax.random.key(0), clips(1, 2))
    assert {leaf.dtype for leaf in jax.tree.leaves(started)} == {jnp.dtype(jnp.float32)}
    features = jax.eval_shape(
        functools.partial(model.apply, method="features"), variables(), clips(1, 2)
    )
    assert features.dtype == jnp.bfloat16
    logits = quick_jit(model.apply)(variables(), clips(2, 4))
    expected = run(narrow(shift="token"))
    assert logits.dtype == jnp.float32
    assert float(abs(logits - expected).max()) < 0.05 * float(abs(expected).max())


def test_remat_computes_the_named_layers_again():
    def recomputed(remat, train):
        def loss(params):
            return model.apply({"params": params}, clips(1, 3), train=train).sum()

        model = narrow(shift="KV", remat=remat)
        return str(jax.make_jaxpr(jax.grad(loss))(variables()["params"])).count("remat2[")

    assert [recomputed(remat, True) for remat in ((), (1,), (0, 1))] == [0, 1, 2]
    assert recomputed((0, 1), False) == 0


# Products between activations: 2 · 12 · 197² · 768 a frame of B, 2 · 24 · 197² · 1024 of L.
@pytest.mark.parametrize(
    ("size", "params", "macs", "products"),
    [
        ("B", 86_106_256, 134_784_319_488, 5_722_619_904),  # published: 134.7 G
        ("L", 303_711_632, 477_172_465_664, 15_260_319_744),
    ],
)
def test_parameters_and_products_of_the_published_sizes(size, params, macs, products):
    costs = count(create_model(400, name="vit", size=size, shift="KV"), (8, 224, 224, 3))
    assert (costs.params, costs.macs, costs.attention_macs) == (params, macs, products)


# Those of torchvision's vit_b_16 and vit_l_16, which have 1,000 classes.
@pytest.mark.parametrize(("size", "params"), [("B", 86_567_656), ("L", 304_326_632)])
def test_parameters_are_as_many_as_in_torchvisions_networks(size, params):
    model = create_model(1000, name="vit", size=size)
    assert count(model, (1, 224, 224, 3)).params == params


def test_the_optimisers_groups_cover_every_parameter():
    groups = assign_groups(variables()["params"], parse_groups(narrow().optim_groups))
    assert {(group.lr, group.decay) for group in jax.tree.leaves(groups)} == {(1.0, 1.0)}


def test_initial_values_are_the_authors():
    """Torch's of linear layers and convolutions, Xavier's of the MLP, zeros of what is learned."""
    model = create_model(3, **{**NARROW, "width": 48, "layers": 1, "mlp_dim": 100})
    params = quick_jit(model.init)(jax.random.key(0), clips(1, 1))["params"]

    def limit(values):  # of a uniform distribution around 0, from its standard deviation
        return float(np.std(values) * np.sqrt(3)), float(abs(values).max())

    attention, mlp = params["layer0"]["attention"], params["layer0"]["mlp"]
    for layer, expected in (
        *((attention[name], 48**-0.5) for name in ("query", "key", "value", "out")),
        (params["patch_embedding"], 48**-0.5),  # 4x4 pixels of 3 colours
        ({"kernel": mlp["fc1"]["kernel"]}, (6 / 148) ** 0.5),
        ({"kernel": mlp["fc2"]["kernel"]}, (6 / 148) ** 0.5),
    ):
        for name, values in layer.items():
            spread, largest = limit(values)
            tolerance = 0.06 if name == "kernel" else 0.3  # a bias has 48 values
            assert spread == pytest.approx(expected, rel=tolerance), name
            assert largest <= expected
    for bias in (mlp["fc1"]["bias"], mlp["fc2"]["bias"]):
        assert np.std(bias) == pytest.approx(1e-6, rel=0.4)
    zeros = [params["class_token"], params["position_embedding"], *params["head"].values()]
    assert not any(np.any(values) for values in zeros)


def test_grad_cam_looks_at_the_patches_that_the_last_attention_sees():
    model, x = narrow(shift="KV"), clips(2, 3)
    names = [layer.name for layer in list_layers(model, variables(), x)]
    assert model.cam_layer == "layer1/norm1" in names
    assert "patch_embedding" in names and "layer1/attention/query" not in names
    maps = quick_jit(functools.partial(grad_cam, model))(variables(), x, jnp.array([0, 3]))
    assert maps.shape == (2, 3, 2, 3) and float(maps.max()) > 0


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "ViT-B/16"),
        ({"shift": "token", "patch": 32}, "TokShift, ViT-B/32"),
        ({"shift": "KV", "size": "L"}, "MSCA-KV, ViT-L/16"),
        (
            {**NARROW, "shift": "Q"},
            "MSCA-Q, ViT of 2 layers, 24 channels and 4 heads, patches of 4",
        ),
    ],
)
def test_a_vit_describes_itself(fields, text):
    assert create_model(5, **{"name": "vit", **fields}).describe() == text


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [(32, (32, 32)), ((48,), (48, 48)), ([16, 32], (16, 32)), ((), (224, 224))],
)
def test_an_image_size_is_a_height_and_a_width(image_size, expected):
    assert create_model(5, name="vit", image_size=image_size).image_size == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": "H"}, "size|'H'|B or L"),
        ({"size": "", "layers": 2}, "width|found 0|size"),
        ({"heads": 5}, "heads|5 heads cannot share 768 channels"),
        ({"layers": -1}, "layers|found -1"),
        ({"patch": 0}, "patch|found 0"),
        ({"image_size": 230}, "image_size|230,230|multiples|16"),
        ({"image_size": (32, 32, 3)}, "image_size|32,32,3|height and a width"),
        ({"shift": "QQ"}, "shift|'QQ'|token or Q or K"),
        ({"shift": "KV", "shift_div": 5}, "shift_div|1/5 of 12 heads|2 or 3 or 4 or 6 or 12"),
        ({"shift": "KV", "heads": 1}, "shift_div|1 heads|more heads"),
        ({"shift": "token", "shift_div": 5}, "shift_div|1/5 of 768 channels|2 or 3 or 4"),
        ({"dropout": 1.0}, "dropout|found 1.0"),
        ({"remat": (12,)}, "remat|found 12|0 to 11"),
    ],
)
def test_fields_that_give_no_network_are_named_with_what_fits(fields, words):
    with pytest.raises(FieldError) as error:
        create_model(5, name="vit", **fields)
    field, *rest = words.split("|")
    assert error.value.field == field
    assert all(word in error.value.problem for word in rest), error.value


def test_frames_of_another_size_are_an_error_that_names_both():
    with pytest.raises(UserError, match=r"frames are 12x8 pixels.*image_size=8x12"):
        jax.eval_shape(narrow().apply, variables(), np.zeros((1, 2, 12, 8, 3), "f4"))
