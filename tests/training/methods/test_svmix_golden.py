"""Two whole steps of SV-Mix's released trainer, in float64: everything that a step makes."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aia_jax import create_model
from aia_jax.training.methods.svmix import make_module_optimizer, make_svmix_step
from aia_jax.training.objective import Objective
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.selective_module import SelectiveModule
from aia_jax.training.state import TrainState
from aia_jax.training.volume_mix import Draws, Mix, mix_targets, salient_share, spread_mask
from aia_jax.weights import from_torch
from tests.golden import recipe
from tests.helpers.golden_steps import SGD, golden_of, in_torchs_layout
from tests.helpers.optim import optim_fields
from tests.helpers.paths import GOLDEN

CLIPS = (3, 4, 64, 96)
LABELS = (3, 7, 1)
# Mode, λ and partners of the network's mix, λ and partners of the module's.
DRAWN = {
    1: (False, 0.37, [2, 0, 1], 0.71, [1, 2, 0]),
    2: (True, 0.55, [1, 0, 2], 0.97, [2, 0, 1]),
}
GROUPS = (
    ("head/kernel", {"lr": 5.0}),
    ("head/bias", {"lr": 10.0, "decay": 0.0}),
    (".*/kernel", {}),
    (".*/(scale|bias)", {"decay": 0.0}),
)


def draws_of(step):
    temporal, share, partner, module_share, module_partner = DRAWN[step]
    return Draws(
        jnp.asarray(temporal),
        Mix(jnp.float64(share), jnp.asarray(partner)),
        Mix(jnp.float64(module_share), jnp.asarray(module_partner)),
    )


def golden_variables(model, prefix):
    """The weights whose golden keys begin with `prefix`, float64."""
    shapes = json.loads((GOLDEN / "aia_state_dict_shapes.json").read_text())["TSM"]
    shapes = {re.sub("^new_fc", "base_model.fc", key): shape for key, shape in shapes.items()}
    shapes |= {"base_model.fc.weight": (10, 2048), "base_model.fc.bias": (10,)}
    weights = {
        key: recipe.tensor(prefix + key.removeprefix("base_model."), tuple(shape))
        for key, shape in shapes.items()
    }
    return jax.tree.map(np.float64, from_torch(weights, model))


def golden_module(channels):
    arrays = {
        key: recipe.tensor(f"svmix.{key}", shape)
        for key, shape in {
            "query.weight": (channels // 2, channels + 1),
            "query.bias": (channels // 2,),
            "value.weight": (1, channels + 1),
            "value.bias": (1,),
        }.items()
    }
    for key in ("query.weight", "value.weight"):
        arrays[key] = arrays[key] * np.float32(0.25)
    arrays["value.weight"][0, channels] = 4
    return {
        layer: {
            "kernel": arrays[f"{layer}.weight"].astype("f8").T,
            "bias": arrays[f"{layer}.bias"].astype("f8"),
        }
        for layer in ("query", "value")
    }


def module_arrays(tree, name):
    """A tree of the module's under the golden names: torch's layout."""
    return {
        f"{name} {layer}.{leaf}": np.asarray(tree[layer][ours]).T
        for layer in ("query", "value")
        for leaf, ours in (("weight", "kernel"), ("bias", "bias"))
    }


def pieces(model, state, clips, draws, targets):
    """What a step makes on its way, by the functions that the step calls."""
    features, _ = model.apply(
        state.ema, clips, train=True, mutable=["batch_stats"], method="features"
    )
    module = SelectiveModule()
    found = {
        "features": features.transpose(0, 1, 4, 2, 3),
        "features channel mean": features.mean(-1),
    }
    for name, mix in zip(("", "2"), (draws.trains_network, draws.trains_module), strict=True):
        mask = module.apply(
            {"params": state.method_state["module"]}, features, *mix, draws.temporal
        )
        weight = spread_mask(mask, clips.shape[1:4])
        mixed = (1 - weight) * clips + weight * clips[mix.partner]
        share = mix.share
        if not name:
            found["share"] = share = salient_share(features, mask, mix.partner)
        labels = optax.smooth_labels(mix_targets(targets, share, mix.partner), 0.1)
        found |= {
            f"mask{name} before clamp": mask,
            f"mixed{name}": mixed.transpose(0, 1, 4, 2, 3),
            f"labels{name}": labels,
        }
    return found


def statistics_are_unbiased(key, ours, before, passes):
    """A running variance as torch has it: what `passes` passes added is n / (n − 1) larger."""
    b, t, h, w = CLIPS
    stage = int(key.split("layer")[1][0]) if "layer" in key else 0
    side = 2 if stage == 0 else 4 * 2 ** (stage - 1)
    n = b * t * (h // side) * (w // side)
    start = before * 0.9**passes
    return start + (ours - start) * n / (n - 1)


def run():
    """Relative errors of everything that the golden file holds."""
    model = create_model(10, 4, temporal="tsm", dropout=0.0, dtype=jnp.float64)
    optim = optim_fields(**{**SGD, "lr_batch_size": 3}, weight_decay=1e-4, groups=GROUPS)
    tx, _ = make_optimizer(optim, steps_per_epoch=100, global_batch=3)
    module_tx = make_module_optimizer(0.0005)
    network, teacher = (
        golden_variables(model, prefix) for prefix in ("base_model.", "teacher.base_model.")
    )
    module = golden_module(2048)
    kept = {"module": module, "opt_state": module_tx.init(module)}
    state = TrainState.create(network, tx, method_state=kept).replace(ema=teacher)
    objective = Objective(10, label_smoothing=0.1)
    clips, labels = np.float64(recipe.clips(*CLIPS)), np.array(LABELS)

    # XLA's first level of optimisation compiles faster and computes as fast here.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def take_step(state, draws):
        step = make_svmix_step(
            model,
            tx,
            module_tx,
            objective,
            draw=lambda *_: draws,
            preprocess=lambda pixels: pixels,
        )
        batch = {"clips": jnp.asarray(clips), "labels": jnp.asarray(labels)}
        found = pieces(model, state, batch["clips"], draws, objective.targets(batch["labels"]))
        return step(state, batch, jax.random.key(0)), found

    errors = {}
    started = {
        name: in_torchs_layout(variables, model)
        for name, variables in (("student", network), ("teacher", teacher))
    }
    for number in DRAWN:
        golden = golden_of(GOLDEN / "svmix_steps.npz", f"3x4x64x96|{number}")
        before = state
        (state, metrics), found = take_step(state, draws_of(number))
        found |= {
            "loss": metrics["loss"],
            "teacher loss": metrics["teacher_loss"],
            "penalty": metrics["mask_penalty"],
            "gnorm": metrics["grad_norm"],
            "module gnorm": metrics["module_grad_norm"],
        }
        found |= {
            f"{name} norm": np.linalg.norm(found[name]) for name in ("features", "mixed", "mixed2")
        }
        # Momentum is the sum of gradient and decay: buf₂ = 0.9 · buf₁ + g + 1e-4 · weight.
        buffers = [s.method_state["opt_state"][1].trace for s in (before, state)]
        grads = jax.tree.map(
            lambda old, new, weight: new - 0.9 * old - 1e-4 * weight,
            *buffers,
            before.method_state["module"],
        )
        module_grads = module_arrays(grads, "module grad")
        found |= module_grads
        found |= {
            name.replace("grad", "grad norm"): np.linalg.norm(grad)
            for name, grad in module_grads.items()
        }
        found |= module_arrays(state.method_state["module"], "after module")
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        for name, tree, passes in (("student", variables, 1), ("teacher", state.ema, 2)):
            for key, ours in in_torchs_layout(tree, model).items():
                if key.endswith("running_var"):
                    ours = statistics_are_unbiased(key, ours, started[name][key], number * passes)
                found[f"after {name} {key.removeprefix('base_model.')}"] = ours
        for name, theirs in golden.items():
            if name in ("logits", "teacher logits", "alphas"):
                continue  # the losses hold the logits; no α is drawn with here
            ours = np.asarray(found[name]).ravel()[: theirs.size]
            scale = max(np.abs(theirs).max(), 1e-9)
            errors[f"{number} {name}"] = float(np.abs(ours - theirs.ravel()).max() / scale)
    return errors


def test_two_steps_equal_the_reference(record_property):
    with jax.enable_x64(True):
        errors = run()
    record_property("largest relative error", max(errors.values()))
    assert len(errors) > 70
    assert max(errors.values()) < 1e-9, {k: v for k, v in errors.items() if v >= 1e-9}
