"""The optimiser against torch.optim.SGD, its schedule, the norm, and wrong groups."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.training import optimizer

GROUPS = (
    ("head/bias", {"lr": 2.0, "decay": 0.0}),
    (r".*bn[^/]*/(scale|bias)", {"decay": 0.0}),
    (".*kernel", {}),
)


def optim_config(**changes):
    fields = {
        "lr": 0.01, "lr_batch_size": 32, "momentum": 0.9, "weight_decay": 1e-4, "clip_norm": 20.0,
        "milestones": (20, 40), "decay": 0.1, "warmup_epochs": 0.0, "groups": GROUPS,
    }  # fmt: skip
    return types.SimpleNamespace(**{**fields, **changes})


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def test_twenty_steps_equal_torch_sgd(float64):
    """All three groups, gradients on both sides of the clipping norm, and both milestones, over 20
    steps in float64.
    """
    rng = np.random.default_rng(0)
    params = {
        "stem": {
            "conv": {"kernel": rng.normal(size=(4, 3))},
            "bn": {"scale": rng.normal(size=3), "bias": rng.normal(size=3)},
        },
        "head": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)},
    }
    leaves = {
        "/".join(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    theirs = {path: torch.nn.Parameter(torch.tensor(leaf)) for path, leaf in leaves.items()}
    base_lr, decay = 0.1, 0.05
    sgd = torch.optim.SGD(
        [
            {"params": [theirs["head/bias"]], "factor": 2, "weight_decay": 0.0},
            {
                "params": [theirs["stem/bn/scale"], theirs["stem/bn/bias"]],
                "factor": 1,
                "weight_decay": 0.0,
            },
            {
                "params": [theirs["stem/conv/kernel"], theirs["head/kernel"]],
                "factor": 1,
                "weight_decay": decay,
            },
        ],
        lr=base_lr,
        momentum=0.9,
    )
    config = optim_config(lr=base_lr, weight_decay=decay, clip_norm=2.0, milestones=(2, 4))
    tx, schedule = optimizer.make_optimizer(config, steps_per_epoch=4, global_batch=32)
    ours = jax.tree.map(jnp.asarray, params)
    state = tx.init(ours)

    @jax.jit
    def update(grads, state, params):
        updates, state = tx.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    clipped = 0
    for step in range(20):
        # The gradient depends on the parameters, so that an error would grow.
        noise = {
            path: rng.normal(size=leaf.shape) * (0.1 if step % 3 else 1)
            for path, leaf in leaves.items()
        }
        for path, parameter in theirs.items():
            parameter.grad = 0.1 * parameter.detach() ** 2 + torch.tensor(noise[path])
        norm = torch.nn.utils.clip_grad_norm_(list(theirs.values()), 2.0)
        clipped += bool(norm > 2.0)
        for group in sgd.param_groups:
            group["lr"] = base_lr * group["factor"] * 0.1 ** ((step >= 8) + (step >= 16))
        sgd.step()

        flat, structure = jax.tree_util.tree_flatten_with_path(ours)
        grads = [0.1 * leaf**2 + noise["/".join(key.key for key in path)] for path, leaf in flat]
        ours, state = update(jax.tree_util.tree_unflatten(structure, grads), state, ours)

    assert 0 < clipped < 20
    for path, leaf in jax.tree_util.tree_flatten_with_path(ours)[0]:
        expected = theirs["/".join(key.key for key in path)].detach().numpy()
        np.testing.assert_allclose(leaf, expected, rtol=1e-13, atol=1e-14)
    assert float(schedule(0)) == base_lr


@pytest.mark.parametrize("milestones", [(20, 40), (40, 20)])
def test_schedule_changes_at_the_first_step_of_a_milestone_epoch(milestones):
    schedule = optimizer.make_schedule(
        optim_config(milestones=milestones), steps_per_epoch=7, global_batch=32
    )
    assert float(schedule(0)) == pytest.approx(0.01)
    for border, before, after in ((20 * 7, 0.01, 0.001), (40 * 7, 0.001, 0.0001)):
        assert float(schedule(border - 1)) == pytest.approx(before)
        assert float(schedule(border)) == pytest.approx(after)
    assert float(schedule(10_000)) == pytest.approx(0.0001)


def test_learning_rate_grows_with_the_batch():
    schedule = optimizer.make_schedule(optim_config(), steps_per_epoch=7, global_batch=128)
    assert float(schedule(0)) == pytest.approx(0.04)


def test_warmup_is_a_ramp_that_starts_above_zero():
    schedule = optimizer.make_schedule(
        optim_config(warmup_epochs=0.5), steps_per_epoch=8, global_batch=32
    )
    rates = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(rates, [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01], rtol=1e-6)


def test_milestones_and_warmups_that_no_run_reaches_are_no_error():
    far = optim_config(milestones=(1, 2**31 - 1), warmup_epochs=3e38, lr=0.5, lr_batch_size=1)
    schedule = optimizer.make_schedule(far, 10, 1)
    assert float(schedule(jnp.int32(0))) == pytest.approx(0.5 / (2**31 - 1))
    constant = optim_config(milestones=(2**31 - 1,), warmup_epochs=0.0)
    assert float(optimizer.make_schedule(constant, 10**6, 32)(jnp.int32(10**9))) == pytest.approx(
        0.01
    )


@pytest.mark.parametrize(
    "changes", [{"lr": 3e38}, {"decay": 3e38, "milestones": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}]
)
def test_a_rate_that_no_float32_holds_is_an_error_that_names_the_fields(changes):
    with pytest.raises(UserError, match=r"optim.lr=.*optim.decay=.*lower them"):
        optimizer.make_schedule(optim_config(**changes), 10, 320)


def test_schedule_of_an_empty_epoch_is_an_error():
    with pytest.raises(UserError, match=r"smaller train\.batch_size"):
        optimizer.make_schedule(optim_config(), steps_per_epoch=0, global_batch=32)


def test_zero_clip_norm_turns_clipping_off():
    tx, _ = optimizer.make_optimizer(
        optim_config(clip_norm=0.0, groups=((".*", {}),), weight_decay=0.0), 10, 32
    )
    params = {"w": jnp.zeros(3)}
    updates, _ = tx.update({"w": jnp.full(3, 1e6)}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -1e4, rtol=1e-6)


def test_state_has_the_momentum_in_the_parameters_shapes():
    tx, _ = optimizer.make_optimizer(optim_config(groups=((".*", {}),)), 10, 32)
    params = {"a": jnp.zeros((3, 4)), "b": {"c": jnp.zeros(5)}}
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(tx.init(params)))
    assert shapes == [(), (3, 4), (5,)]  # the step count and one buffer a parameter


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            (("head/.*", {}),),
            r"covers 1 of 3 parameters; add a pattern for stem/bn/scale, stem/conv/kernel$",
        ),
        ((("head/bais", {}), (".*", {})), "no parameter is left for 'head/bais'"),
        (
            ((".*", {}), ("head/bias", {})),
            "no parameter is left for 'head/bias'; correct the pattern, move it up",
        ),
        ((("bias", {}), (".*/.*", {})), "no parameter is left for 'bias'"),
    ],
)
def test_groups_that_do_not_fit_are_named(groups, message):
    params = {
        "stem": {"conv": {"kernel": jnp.zeros(2)}, "bn": {"scale": jnp.zeros(2)}},
        "head": {"bias": jnp.zeros(2)},
    }
    tx, _ = optimizer.make_optimizer(optim_config(groups=groups), 10, 32)
    with pytest.raises(UserError, match=message):
        tx.init(params)


def test_many_uncovered_parameters_are_counted():
    with pytest.raises(UserError, match=r"covers 0 of 20 .* and 12 more"):
        optimizer.assign_groups({f"p{i}": jnp.zeros(1) for i in range(20)}, ())


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ((".*", {"wd": 0.0}), "sets 'wd'; a group may set 'lr' and 'decay'"),
        (("(", {}), "not a regular expression"),
    ],
)
def test_malformed_groups_are_named(group, message):
    with pytest.raises(UserError, match=message):
        optimizer.parse_groups((group,))


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
