"""The selective module against the numbers of its authors' code, and what is made of its masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.training.selective_module import SelectiveModule
from aia_jax.training.volume_mix import (
    draw_mixes,
    hold_near_ends,
    mix_targets,
    salient_share,
    size_penalty,
    spread_mask,
)
from tests.golden import recipe
from tests.helpers.golden_steps import golden_of
from tests.helpers.paths import GOLDEN
from tests.helpers.quick_jit import quick_jit

SHAPE = (3, 4, 24, 2, 3)  # N, T, C, H, W
PARTNER = np.array([1, 2, 0])


def golden_weights(channels):
    """The module's golden weights."""
    name, inner = f"svmix{channels}.", channels // 2
    value = recipe.tensor(f"{name}value.weight", (1, channels + 1))
    value[0, channels] = 4
    query = recipe.tensor(f"{name}query.weight", (inner, channels + 1))
    return {
        "query": {"kernel": query.T, "bias": recipe.tensor(f"{name}query.bias", (inner,))},
        "value": {"kernel": value.T, "bias": recipe.tensor(f"{name}value.bias", (1,))},
    }


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("mode", ["spatial", "temporal"])
def test_masks_penalty_and_gradients_are_those_of_the_reference(mode, share):
    golden = golden_of(GOLDEN / "svmix_module.npz", f"3x4x24x2x3|{mode}|{share}")
    rng = np.random.default_rng([recipe.SEED, *SHAPE])
    features = rng.normal(0, 1, SHAPE).astype("f4").transpose(0, 1, 3, 4, 2).astype("f8")
    cotangent = rng.normal(0, 1, (3, 4, 2, 3)).astype("f4").astype("f8")
    with jax.enable_x64(True):
        weights = jax.tree.map(np.float64, golden_weights(24))

        def run(weights):
            mask = SelectiveModule("both").apply(
                {"params": weights}, features, jnp.float64(share), PARTNER, mode == "temporal"
            )
            return (mask * cotangent).sum(), (mask, size_penalty(mask, jnp.float64(share)))

        grads, (mask, penalty) = quick_jit(jax.grad(run, has_aux=True))(weights)
        alone = SelectiveModule(mode).apply(
            {"params": weights}, features, jnp.float64(share), PARTNER, False
        )
    found = {
        "mask": mask,
        "penalty": penalty,
        "grad query.weight": grads["query"]["kernel"].T,
        "grad query.bias": grads["query"]["bias"],
        "grad value.weight": grads["value"]["kernel"].T,
        "grad value.bias": grads["value"]["bias"],
    }
    assert found.keys() == golden.keys()
    for name, theirs in golden.items():
        np.testing.assert_allclose(found[name], theirs, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(alone, mask, rtol=1e-12)


def test_first_weights_are_torchs_but_for_the_share():
    features = jnp.zeros((1, 1, 1, 1, 200))
    key, nobody = jax.random.key(0), jnp.zeros(1, jnp.int32)
    weights = SelectiveModule().init(key, features, jnp.float32(0.5), nobody, True)["params"]
    limit = 201**-0.5
    assert weights["query"]["kernel"].shape == (201, 100)
    assert weights["value"]["kernel"][-1] == 4
    assert weights["value"]["bias"] == 0
    for drawn in (
        weights["query"]["kernel"],
        weights["query"]["bias"],
        weights["value"]["kernel"][:-1],
    ):
        assert 0.9 * limit < jnp.abs(drawn).max() <= limit


def test_a_mask_is_repeated_over_pixels_and_over_the_frames_of_a_segment():
    mask = np.random.default_rng(0).uniform(size=(2, 3, 2, 4)).astype("f4")
    found = np.asarray(spread_mask(mask, (6, 4, 9)))
    assert found.shape == (2, 6, 4, 9, 1)
    for frame, row, column in np.ndindex(6, 4, 9):
        expected = mask[:, frame // 2, row // 2, column * 4 // 9]
        assert (found[:, frame, row, column, 0] == expected).all()


def test_a_constant_mask_shares_labels_as_it_shares_pixels():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 2, 4, 4, 5)).astype("f4")
    mask = rng.uniform(size=(3, 2, 4, 4)).astype("f4")
    for share, is_constant in ((0.08, True), (0.0801, False), (0.92, True), (0.91, False)):
        held = hold_near_ends(mask, jnp.float32(share))
        assert (held == mask).all() != is_constant
        if is_constant:
            shares = salient_share(features, held, PARTNER)
            np.testing.assert_allclose(shares, share, rtol=1e-6)
    labels = mix_targets(np.eye(3, dtype="f4"), jnp.float32(0.25), PARTNER)
    np.testing.assert_array_equal(labels[0], [0.25, 0.75, 0])


def test_draws_are_of_the_modes_distributions():
    keys = jax.random.split(jax.random.key(3), 4000)

    @quick_jit
    def draw():
        sometimes = jax.vmap(lambda key: draw_mixes("both", 0.75)(key, 5))(keys)
        alone = [draw_mixes(mode)(keys[0], 5).temporal for mode in ("spatial", "temporal")]
        return sometimes, alone

    draws, alone = draw()
    assert list(map(bool, alone)) == [False, True]
    temporal, shares = np.asarray(draws.temporal), np.asarray(draws.trains_network.share)
    mixed = shares < 1
    assert abs(mixed.mean() - 0.75) < 0.03
    assert temporal[~mixed].all()  # as the released code has it
    assert abs(temporal[mixed].mean() - 0.5) < 0.03
    # The variance of Beta(α, α) is 1 / (8α + 4).
    assert abs(shares[mixed & temporal].var() - 1 / 10.4) < 0.006
    assert abs(shares[~temporal].var() - 1 / 12) < 0.006
    assert abs(np.var(draws.trains_module.share) - 1 / 12) < 0.006
    for mix in (draws.trains_network, draws.trains_module):
        assert (np.sort(mix.partner, axis=1) == np.arange(5)).all()
        assert len(np.unique(mix.partner, axis=0)) == 120
    assert np.mean(draws.trains_network.partner == draws.trains_module.partner) < 0.3
