"""The learning rate of a step: milestones, the cosine, the warm-up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.training.schedules import describe_schedule, make_schedule
from tests.helpers.optim import optim_fields


@pytest.mark.parametrize("milestones", [(20, 40), (40, 20)])
def test_it_changes_at_the_first_step_of_a_milestone_epoch(milestones):
    schedule = make_schedule(
        optim_fields(milestones=milestones), steps_per_epoch=7, global_batch=32
    )
    assert float(schedule(0)) == pytest.approx(0.01)
    for border, before, after in ((20 * 7, 0.01, 0.001), (40 * 7, 0.001, 0.0001)):
        assert float(schedule(border - 1)) == pytest.approx(before)
        assert float(schedule(border)) == pytest.approx(after)
    assert float(schedule(10_000)) == pytest.approx(0.0001)


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
def test_the_rate_grows_with_the_batch(schedule):
    optim = optim_fields(schedule=schedule)
    assert float(make_schedule(optim, 7, 128, epochs=50)(0)) == pytest.approx(0.04)


def test_warmup_is_a_ramp_that_starts_above_zero():
    schedule = make_schedule(optim_fields(warmup_epochs=0.5), steps_per_epoch=8, global_batch=32)
    rates = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(rates, [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01], rtol=1e-6)


@pytest.mark.parametrize(("final", "warmup"), [(0.0, 0), (0.05, 0), (0.05, 3)])
def test_the_cosine_is_torchs_stepped_at_every_iteration(final, warmup):
    """Three epochs of 7 steps; the cosine starts behind the warm-up and ends with the run."""
    steps, lr = 21, 0.3
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps - warmup, final * lr)
    expected = []
    for _ in range(steps - warmup):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    ramp = [lr * (step + 1) / warmup for step in range(warmup)]
    fields = {"schedule": "cosine", "milestones": (), "final_lr": final, "lr": lr}
    optim = optim_fields(**fields, warmup_epochs=warmup / 7)
    with jax.enable_x64(True):
        schedule = jax.jit(make_schedule(optim, steps_per_epoch=7, global_batch=32, epochs=3))
        found = [float(schedule(step)) for step in range(steps + 5)]
    np.testing.assert_allclose(found[:steps], ramp + expected, rtol=1e-12)
    # Behind the last epoch there is no second wave.
    np.testing.assert_allclose(found[steps:], final * lr, atol=1e-16)


def test_milestones_and_warmups_that_no_run_reaches_are_no_error():
    far = optim_fields(milestones=(1, 2**31 - 1), warmup_epochs=3e38, lr=0.5, lr_batch_size=1)
    for name in ("steps", "cosine"):
        far.schedule = name
        schedule = make_schedule(far, 10, 1, epochs=2**31 - 1)
        assert float(schedule(jnp.int32(0))) == pytest.approx(0.5 / (2**31 - 1))
    constant = optim_fields(milestones=(2**31 - 1,), warmup_epochs=0.0)
    rate = make_schedule(constant, 10**6, 32)(jnp.int32(10**9))
    assert float(rate) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 3e38},
        {"decay": 3e38, "milestones": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)},
        {"lr": 3e38, "schedule": "cosine"},
    ],
)
def test_a_rate_that_no_float32_holds_is_an_error_that_names_the_fields(changes):
    with pytest.raises(UserError, match=r"optim.lr=.*optim.decay=.*lower them"):
        make_schedule(optim_fields(**changes), 10, 320, epochs=50)


def test_the_schedule_of_an_empty_epoch_is_an_error():
    with pytest.raises(UserError, match=r"smaller train\.batch_size"):
        make_schedule(optim_fields(), steps_per_epoch=0, global_batch=32)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "× 0.1 after epochs 20 and 40"),
        (
            {"milestones": (5,), "warmup_epochs": 0.5},
            "× 0.1 after epoch 5, warm-up over 0.5 epochs",
        ),
        ({"milestones": (), "warmup_epochs": 1.0}, "constant, warm-up over 1 epoch"),
        ({"schedule": "cosine", "final_lr": 0.01}, "a cosine down to × 0.01 at the end"),
    ],
)
def test_it_says_what_it_does(changes, words):
    assert describe_schedule(optim_fields(**changes)) == words
