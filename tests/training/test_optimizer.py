"""The optimisers against torch's and against their papers' equations, the norm, wrong names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.training import optimizer
from aia_jax.training.freezing import frozen_rule
from tests.helpers.optim import optim_fields

# Rows of the tests: groups' patterns and factors, and the layers with a layer-wise decay of a half.
GROUPS = (
    ("head/bias", {"lr": 2.0, "decay": 0.0}),
    (r".*bn[^/]*/(scale|bias)", {"decay": 0.0}),
    (".*kernel", {}),
)
LAYERS = ("stem/.*", "head/.*")
LR, DECAY, CLIP = 0.1, 0.05, 2.0
STEPS = 20


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def draw_params(rng):
    return {
        "stem": {
            "conv": {"kernel": rng.normal(size=(4, 3))},
            "bn": {"scale": rng.normal(size=3), "bias": rng.normal(size=3)},
        },
        "head": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)},
    }


def by_path(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def factors(path, layer_decay=1.0):
    """(on the learning rate, on weight decay) of a parameter."""
    lr, decay = {"head/bias": (2, 0), "stem/bn/scale": (1, 0), "stem/bn/bias": (1, 0)}.get(
        path, (1, 1)
    )
    return lr * (layer_decay if path.startswith("stem/") else 1), decay


def run(config, theirs, gradient_step):
    """Takes 20 steps, beside somebody else's; asserts that the parameters are the same.

    Args:
        config: of our optimiser.
        theirs: path → their parameter, as a NumPy array that their steps change in place.
        gradient_step: takes their step: (number, path → clipped gradient).
    """
    rng = np.random.default_rng(0)
    ours = jax.tree.map(jnp.asarray, draw_params(rng))
    for path, leaf in by_path(ours).items():
        theirs[path][...] = leaf
    tx, _ = optimizer.make_optimizer(config, steps_per_epoch=4, global_batch=32, layers=LAYERS)
    state = tx.init(ours)

    @jax.jit
    def update(grads, state, params):
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    clipped = 0
    for step in range(STEPS):
        # The gradient depends on the parameters, so that an error would grow.
        scale = functools.partial(np.multiply, 0.1 if step % 3 else 1.0)
        noise = jax.tree.map(scale, draw_params(rng))
        gradients = {path: 0.1 * theirs[path] ** 2 + n for path, n in by_path(noise).items()}
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        clipped += bool(norm > CLIP)
        factor = min(1.0, CLIP / (norm + 1e-6))  # as clip_grad_norm_
        gradient_step(step, {path: g * factor for path, g in gradients.items()})
        grads = jax.tree.map(lambda leaf, n: 0.1 * leaf**2 + n, ours, noise)
        ours, state = update(grads, state, ours)

    assert 0 < clipped < STEPS
    for path, leaf in by_path(ours).items():
        np.testing.assert_allclose(leaf, theirs[path], rtol=1e-13, atol=1e-14, err_msg=path)


@pytest.mark.parametrize(
    ("changes", "make"),
    [
        ({"name": "sgd"}, lambda groups: torch.optim.SGD(groups, momentum=0.9)),
        ({"name": "sgd", "layer_decay": 0.5}, lambda groups: torch.optim.SGD(groups, momentum=0.9)),
        ({"name": "adam"}, torch.optim.Adam),
        ({"name": "adamw"}, torch.optim.AdamW),
        (
            {"name": "adamw", "betas": (0.8, 0.95), "layer_decay": 0.5},
            lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.95)),
        ),
    ],
)
def test_twenty_steps_equal_torch(float64, changes, make):
    """All three groups, gradients on both sides of the clipping norm, and both milestones."""
    config = optim_fields(
        lr=LR, weight_decay=DECAY, clip_norm=CLIP, milestones=(2, 4), groups=GROUPS, **changes
    )
    parameters = {
        path: torch.nn.Parameter(torch.tensor(leaf))
        for path, leaf in by_path(draw_params(np.random.default_rng(0))).items()
    }
    rates = {path: factors(path, config.layer_decay) for path in parameters}
    theirs = make(
        [
            {
                "params": [parameter],
                "factor": rates[path][0],
                "weight_decay": DECAY * rates[path][1],
                "lr": LR,
            }
            for path, parameter in parameters.items()
        ]
    )

    def step(number, gradients):
        for path, gradient in gradients.items():
            parameters[path].grad = torch.tensor(gradient)
        for group in theirs.param_groups:
            group["lr"] = LR * group["factor"] * 0.1 ** ((number >= 8) + (number >= 16))
        theirs.step()

    run(config, {path: p.detach().numpy() for path, p in parameters.items()}, step)


@pytest.mark.parametrize("name", ["lion", "lamb"])
def test_twenty_steps_equal_the_equations_of_the_paper(float64, name):
    config = optim_fields(
        name=name, lr=LR, weight_decay=DECAY, clip_norm=CLIP, milestones=(), groups=GROUPS
    )
    theirs = by_path(draw_params(np.random.default_rng(0)))
    first = {path: np.zeros_like(p) for path, p in theirs.items()}
    second = {path: np.zeros_like(p) for path, p in theirs.items()}

    def lion(number, m, v, g):
        """Chen et al. 2023, Alg. 2."""
        direction = np.sign(0.9 * m + 0.1 * g)
        m[...] = 0.99 * m + 0.01 * g
        return direction

    def adam(number, m, v, g):
        m[...] = 0.9 * m + 0.1 * g
        v[...] = 0.999 * v + 0.001 * g**2
        return m / (1 - 0.9**number) / (np.sqrt(v / (1 - 0.999**number)) + 1e-6)

    def step(number, gradients):
        for path, g in gradients.items():
            (lr, decay), p = factors(path), theirs[path]
            if name == "lion":
                update = lion(number, first[path], second[path], g) + DECAY * decay * p
            else:  # You et al. 2020, Alg. 2
                update = adam(number + 1, first[path], second[path], g) + DECAY * decay * p
                update *= np.linalg.norm(p) / np.linalg.norm(update)
            p -= LR * lr * update

    run(config, theirs, step)


@pytest.mark.parametrize("name", optimizer.OPTIMISERS)
def test_frozen_parameters_stay_and_their_moments_are_zero(name):
    params = jax.tree.map(jnp.asarray, draw_params(np.random.default_rng(0)))
    optim = optim_fields(name=name, weight_decay=0.5)
    tx, _ = optimizer.make_optimizer(optim, 4, 32, frozen_rule("stem/.*"))
    grads = jax.tree.map(jnp.ones_like, params)
    updates, state = tx.update(grads, tx.init(params), params)
    for path, update in by_path(updates).items():
        assert np.any(update != 0) == (not path.startswith("stem/")), path
    moments = {path: leaf for path, leaf in by_path(state).items() if np.ndim(leaf)}
    held = [leaf for path, leaf in moments.items() if "stem/" in path]
    assert held and not any(np.any(leaf != 0) for leaf in held)


def test_zero_clip_norm_turns_clipping_off():
    optim = optim_fields(clip_norm=0.0, weight_decay=0.0)
    tx, _ = optimizer.make_optimizer(optim, 10, 32)
    params = {"w": jnp.zeros(3)}
    updates, _ = tx.update({"w": jnp.full(3, 1e6)}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -1e4, rtol=1e-6)


@pytest.mark.parametrize(("name", "moments", "counts"), [("sgd", 1, 1), ("adamw", 2, 2)])
def test_the_state_has_moments_in_the_parameters_shapes(name, moments, counts):
    tx, _ = optimizer.make_optimizer(optim_fields(name=name), 10, 32)
    params = {"a": jnp.zeros((3, 4)), "b": {"c": jnp.zeros(5)}}
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(tx.init(params)))
    assert shapes == sorted([()] * counts + [(3, 4), (5,)] * moments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adagrad"}, "optim.name: found 'adagrad', expected sgd, adam, adamw, .* or lion"),
        ({"betas": (0.9, 0.99)}, "optim.betas: found 0.9,0.99, but sgd has none; .*optim.momentum"),
    ],
)
def test_wrong_fields_are_named(changes, message):
    with pytest.raises(UserError, match=f"config key {message}"):
        optimizer.make_optimizer(optim_fields(**changes), 10, 32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "sgd, momentum 0.9, weight decay 0.0001, gradient norm up to 20"),
        (
            {"name": "lion", "clip_norm": 0.0, "layer_decay": 0.75},
            "lion, betas 0.9 and 0.99, weight decay 0.0001, learning rate × 0.75 from each layer "
            "to the one below it",
        ),
    ],
)
def test_it_says_what_it_is(changes, words):
    assert optimizer.describe_optimizer(optim_fields(**changes)) == words


@pytest.mark.parametrize("sizes", [[(3,)], [(70, 70)], [(), (1,), (3, 3, 3, 2), (64, 64), (5000,)]])
def test_the_global_norm_equals_optax(sizes):
    rng = np.random.default_rng(0)
    gradients = {str(i): rng.normal(size=size).astype("f4") for i, size in enumerate(sizes)}
    found = jax.jit(optimizer.global_norm)(gradients)
    assert found.shape == () and found.dtype == np.float32
    np.testing.assert_allclose(found, optax.tree.norm(gradients), rtol=1e-6)


def test_small_gradients_are_summed_together():
    """Separate sums of attention's 400 gradients would take a third of a step's compile time."""
    text = jax.jit(optimizer.global_norm).lower([np.ones(6, "f4")] * 50).as_text()
    assert text.count("stablehlo.reduce(") == 1
