"""What GST, C3D and a TSM with non-local blocks do alike, as ResNets that look across frames."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import create_model
from aia_jax.evaluation.gradcam import list_layers
from aia_jax.models.stages import check_stages
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from tests.helpers.quick_jit import quick_jit
from tests.helpers.tiny_variables import drawn

NARROW = {"width": 8, "stage_sizes": (1, 1), "stem": "small", "dropout": 0.0}
NETWORKS = {
    "gst": {"name": "gst"},
    "c3d": {"name": "c3d"},
    "non_local": {"temporal": "tsm", "non_local": True},
}


def network(name, **fields):
    return create_model(5, 4, **{**NETWORKS[name], **NARROW, **fields})


def clips(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("f4")


@functools.cache
def variables_of(name):
    return drawn(network(name), clips(1, 2, 8, 8))


@functools.cache
def trained(name, **fields):
    """Logits, new statistics and gradient of the parameters, compiled."""
    model = network(name, **fields)

    def loss(params, x):
        logits, updated = model.apply(
            {**variables_of(name), "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return (logits**2).sum(), (logits, updated["batch_stats"])

    step = quick_jit(jax.grad(loss, has_aux=True))
    gradient, (logits, statistics) = step(variables_of(name)["params"], clips(4, 3, 8, 10))
    return jax.device_get((logits, statistics, gradient))


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_features_and_embedding_of_any_clip(name):
    model, variables = network(name), variables_of(name)
    x = clips(2, 3, 8, 12)
    logits, features, embedding = quick_jit(
        lambda v, x: [model.apply(v, x, method=m) for m in ("__call__", "features", "embed")]
    )(variables, x)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    assert features.shape == (2, 3, 4, 6, 64) and embedding.shape == (2, 3, 64)
    np.testing.assert_allclose(embedding, np.asarray(features).mean((2, 3)), rtol=1e-5, atol=1e-6)
    head = variables["params"]["head"]
    by_hand = (np.asarray(embedding) @ head["kernel"] + head["bias"]).mean(1)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)
    layers = {layer.name: layer.shape for layer in list_layers(model, variables, x)}
    assert layers[model.cam_layer] == features.shape
    again = jax.eval_shape(model.init, jax.random.key(0), clips(1, 1, 16, 8))
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_the_frames_changes_the_logits(name):
    run, x = quick_jit(network(name).apply), clips(1, 3, 8, 8)
    forwards, backwards = (run(variables_of(name), x[:, ::step]) for step in (1, -1))
    assert np.abs(forwards - backwards).max() > 1e-3 * np.abs(forwards).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_remat_changes_neither_numbers_nor_gradients(name):
    for found, expected in zip(trained(name, remat=(1, 2)), trained(name), strict=True):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_of_batch_norm_are_groups_of_clips(name):
    grouped = trained(name, bn_group_size=2)[0]
    assert np.abs(grouped - trained(name)[0]).max() > 1e-3 * np.abs(grouped).max()
    model = network(name)
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    half, _ = quick_jit(apply)(variables_of(name), clips(4, 3, 8, 10)[:2])
    np.testing.assert_allclose(grouped[:2], half, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_partial_batch_norm_keeps_the_statistics_of_the_bottlenecks(name):
    model = network(name, partial_bn=True)
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    _, updated = quick_jit(apply)(variables_of(name), clips(2, 2, 8, 8))
    moved = jax.tree_util.tree_leaves_with_path(
        jax.tree.map(
            lambda a, b: bool((np.asarray(a) != b).any()),
            updated["batch_stats"],
            variables_of(name)["batch_stats"],
        )
    )
    params = variables_of(name)["params"]
    frozen = frozen_rule("", model.partial_bn_frozen)(params)
    for path, changed in moved:
        layer = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        stays = not re.match(r"stem/|.*/non_local/", layer)
        assert changed != stays, layer
        scale = functools.reduce(lambda tree, key: tree[key.key], path[:-1], frozen)["scale"]
        assert scale == stays, layer


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_features_and_float32_logits(name):
    x, variables = clips(2, 3, 8, 8), variables_of(name)
    half, full = (network(name, dtype=dtype) for dtype in (jnp.bfloat16, jnp.float32))
    features = jax.eval_shape(functools.partial(half.apply, method="features"), variables, x)
    assert features.dtype == jnp.bfloat16
    found, expected = (quick_jit(model.apply)(variables, x) for model in (half, full))
    assert found.dtype == jnp.float32
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_has_a_group_of_the_recipes(name):
    groups = assign_groups(variables_of(name)["params"], parse_groups(network(name).optim_groups))
    for path, group in jax.tree_util.tree_leaves_with_path(groups):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        if path.endswith("kernel"):
            expected = (1, 1)
        elif re.search(r"bn\d?/", path):
            expected = (1, 0)
        else:
            expected = (2, 0)
        assert (group.lr, group.decay) == expected, path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "gst", "alpha": 3}, "alpha found 3, expected a divisor of the 64 channels"),
        ({"name": "gst", "alpha": 1}, "alpha found 1, expected at least 2"),
        ({"name": "gst", "beta": 3}, "beta found 3, expected 1 or 2"),
        ({"name": "gst", "alpha": 5, "width": 5}, "beta found 2, expected a divisor of the 5"),
        ({"name": "gst", "stem": "big"}, "stem found 'big', expected imagenet or small"),
        ({"name": "c3d", "stem": "big"}, "stem found 'big', expected imagenet or small"),
        ({"name": "c3d", "depth": 18}, "depth found 18, expected 50 or 101"),
        ({"name": "c3d", "alpha": 4}, "alpha is a field of the network gst, this one is c3d"),
    ],
)
def test_wrong_fields_name_what_fits(fields, words):
    with pytest.raises(ValueError) as caught:
        create_model(5, **fields)
    assert words in str(caught.value).replace(": ", " "), caught.value


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": "gst"}, "GST, ResNet-50"),
        ({"name": "gst", "beta": 1}, "GST with alpha 4 and beta 1, ResNet-50"),
        ({"name": "c3d", "stage_sizes": (1, 2)}, "C3D, ResNet with stages of 1-2 blocks"),
    ],
)
def test_a_network_describes_itself_and_what_to_compare_it_with(fields, text):
    model = create_model(5, **fields)
    assert model.describe() == text
    for variant in model.variants():
        check_stages(model.clone(**variant))
