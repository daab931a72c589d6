"""Four training steps in float64, step for step: losses, gradient norms and tensors. Of AIA on TSM
at its full size they are the reference implementation's, of a plain and narrow TSN PyTorch's.

In float32 the reference's four steps get 2.5e-2 away, PyTorch's own in float32 1e-2: the loss falls
to a two-hundredth, and what is left of it is rounding. Torch keeps the unbiased running variance
and Flax the biased one, so that is converted.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import torch

from aia_jax import create_model
from aia_jax.training.methods.supervised import make_train_step
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.state import TrainState
from aia_jax.weights import from_torch
from tests.golden import recipe
from tests.helpers import torch_nets
from tests.helpers.golden_steps import in_torchs_layout
from tests.helpers.optim import optim_fields
from tests.helpers.paths import GOLDEN

TRAIN = dict(np.load(GOLDEN / "aia_train.npz"))
CLIPS = (2, 8, 64, 64)
STEPS = 4
LABELS = [3, 7]
NET = "TSM_CinST2STinC_BN"
RECIPE = optim_fields(
    lr=0.01,
    lr_batch_size=2,
    momentum=0.9,
    weight_decay=1e-4,
    clip_norm=20.0,
    groups=(
        (".*/kernel", {}),
        ("head/bias", {"lr": 2.0, "decay": 0.0}),
        (r".*bn\d?/(scale|bias)", {"decay": 0.0}),
    ),
)


def shapes_of_reference():
    """Key → shape of the reference's net with 10 classes and, as it has no dropout, torchvision's
    name for the head.
    """
    shapes = json.loads((GOLDEN / "aia_state_dict_shapes.json").read_text())[NET]
    renamed = {
        re.sub(r"^new_fc", "base_model.fc", key): tuple(shape) for key, shape in shapes.items()
    }
    return renamed | {"base_model.fc.weight": (10, 2048), "base_model.fc.bias": (10,)}


def averaged_over(key):
    """Elements a channel that a BatchNorm's statistics are taken over, on the golden clips."""
    clips, frames, height, _ = CLIPS
    stage = int(re.search(r"layer(\d)", key)[1]) if "layer" in key else 0
    side = height // 2 if stage == 0 else height // 4 // 2 ** (stage - 1)
    # What a unit leaves of T, C, H, W.
    axes = {
        "C": (frames, side, side),
        "T": (64 * 2 ** (stage - 1), side, side),
    }
    axes["H"] = axes["W"] = (frames, 64 * 2 ** (stage - 1), side)
    unit = re.search(r"\.([CTHW])_bn", key)
    return clips * np.prod(axes[unit[1]] if unit else (frames, side, side))


def unbiased(variance, key):
    """A running variance as torch keeps it: what the steps added to the first value is n / (n - 1)
    larger there.
    """
    n, first = (
        averaged_over(key),
        recipe.tensor(key, variance.shape).astype(variance.dtype) * 0.9**STEPS,
    )
    return first + (variance - first) * n / (n - 1)


def take_steps(model, weights, clips):
    """Losses, gradient norms, and the variables after the last step under the reference's keys."""
    tx, _ = make_optimizer(RECIPE, steps_per_epoch=100, global_batch=len(clips))
    state = TrainState.create(jax.tree.map(jnp.float64, weights), tx)
    batch = {"clips": jnp.float64(clips), "labels": jnp.asarray(LABELS)}
    # The clips are normalised already. XLA's first level of optimisation compiles faster and
    # computes as fast here.
    step = jax.jit(
        make_train_step(model, tx, preprocess=lambda clips: clips),
        donate_argnums=0,
        compiler_options={"xla_backend_optimization_level": 1},
    )
    losses, norms = [], []
    for _ in range(STEPS):
        state, metrics = step(state, batch, jax.random.key(0))
        losses.append(float(metrics["loss"]))
        norms.append(float(metrics["grad_norm"]))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return np.array(losses), np.array(norms), in_torchs_layout(variables, model)


def test_four_steps_equal_the_reference(record_property):
    with jax.enable_x64(True):
        model = create_model(
            10, temporal="tsm", attention="CinST->STinC", dropout=0.0, dtype=jnp.float64
        )
        state_dict = {key: recipe.tensor(key, s) for key, s in shapes_of_reference().items()}
        losses, norms, ours = take_steps(model, from_torch(state_dict, model), recipe.clips(*CLIPS))
    ours |= {"loss": losses, "gnorm": norms}
    errors = {}
    for name, theirs in TRAIN.items():
        key = name.removeprefix(f"{NET}|")
        tensor = unbiased(ours[key], key) if key.endswith("running_var") else ours[key]
        difference = np.abs(tensor.ravel()[: theirs.size] - theirs.ravel())
        # Losses and norms fall from step to step, so each is compared with its own.
        scale = np.abs(theirs) if key in ("loss", "gnorm") else np.abs(theirs).max()
        errors[key] = float((difference / scale.ravel()).max())
    record_property("largest relative error", max(errors.values()))
    assert len(errors) > 10
    assert max(errors.values()) < 1e-9, errors  # 1e-13 is reached; the bar is 1e-6


def test_four_steps_of_a_plain_network_equal_pytorchs():
    fields = {"temporal": "tsn", "dropout": 0.0, "width": 8, "stage_sizes": (1, 1)}
    net = torch_nets.randomise(torch_nets.VideoNet(10, **fields), seed=0).train()
    net.float().double()  # `from_torch` gives float32
    clips = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 3))
    with jax.enable_x64(True):
        model = create_model(10, dtype=jnp.float64, **fields)
        started = {key: value.numpy().copy() for key, value in net.state_dict().items()}
        losses, norms, ours = take_steps(model, from_torch(started, model), clips)

    kernels, rest = [], []
    for key, parameter in net.named_parameters():
        if key != "base_model.fc.bias":
            (kernels if parameter.ndim > 1 else rest).append(parameter)
    groups = [
        {"params": kernels, "weight_decay": 1e-4},
        {"params": rest, "weight_decay": 0.0},
        {"params": [net.base_model.fc.bias], "lr": 0.02, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for loss, norm in zip(losses, norms, strict=True):
        optimizer.zero_grad()
        theirs = torch.nn.functional.cross_entropy(net(torch.tensor(clips)), torch.tensor(LABELS))
        theirs.backward()
        total = torch.nn.utils.clip_grad_norm_(net.parameters(), 20.0)
        optimizer.step()
        np.testing.assert_allclose([loss, norm], [theirs.item(), total.item()], rtol=1e-9)
    for key, theirs in net.state_dict().items():
        if not key.endswith(("running_var", "num_batches_tracked")):
            np.testing.assert_allclose(ours[key], theirs.numpy(), rtol=0, atol=1e-9, err_msg=key)
            assert not np.array_equal(theirs.numpy(), started[key]), key
