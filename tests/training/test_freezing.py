"""What is frozen gets no update, no decay and no share of the gradient's norm; frozen statistics
stay.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.training.freezing import frozen_rule
from aia_jax.training.methods.supervised import make_train_step
from aia_jax.training.optimizer import make_optimizer
from aia_jax.training.state import TrainState
from configs import base
from tests.helpers.quick_jit import quick_jit

MODEL = create_model(3, stem="small", width=4, stage_sizes=(1, 1), attention="C", dropout=0.0)
BATCH = {
    "clips": np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8),
    "labels": np.array([0, 2]),
}


def variables():
    """Of the net, with numbers that no initialiser gives."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype("f4"), shapes)


def paths(tree):
    return flatten_dict(tree, sep="/")


def rule(patterns, partial_bn):
    return frozen_rule(patterns, MODEL.partial_bn_frozen if partial_bn else "")


def frozen_names(patterns, partial_bn=False):
    held = paths(rule(patterns, partial_bn)(variables()["params"]))
    return {name for name, is_held in held.items() if is_held}


def changed_by_training(patterns, partial_bn):
    """Names of the variables that a step changes, the momentum after it, and its metrics."""
    frozen = rule(patterns, partial_bn)
    optim = base.get_config().optim
    optim.groups = MODEL.optim_groups
    tx, _ = make_optimizer(optim, 10, 2, frozen)
    step = quick_jit(make_train_step(MODEL.clone(partial_bn=partial_bn), tx, frozen=frozen))
    before = variables()
    state = TrainState.create(before, tx)
    state, metrics = step(state, BATCH, jax.random.key(0))
    after = paths({"params": state.params, "batch_stats": state.batch_stats})
    changed = {
        name for name, leaf in paths(before).items() if not np.array_equal(after[name], leaf)
    }
    momentum = next(part.trace for part in state.opt_state if hasattr(part, "trace"))
    return changed, paths(momentum), metrics


def test_patterns_are_for_whole_paths():
    assert frozen_names("") == set()
    assert frozen_names("stem/.* head/bias") == {
        "stem/conv/kernel",
        "stem/bn/scale",
        "stem/bn/bias",
        "head/bias",
    }


def test_partial_bn_is_the_backbones_but_for_the_first():
    held = frozen_names("", partial_bn=True)
    norms = {
        name
        for name in paths(variables()["params"])
        if "bn" in name and "/attention/" not in name and not name.startswith("stem/")
    }
    # Scale and shift of three and the shortcut's, in two blocks.
    assert held == norms and len(held) == 2 * 2 * 4


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            "stem stage1.*",
            "no parameter is called 'stem'; a pattern is for the whole path, such as",
        ),
        ("stem/( a", "'stem/\\(' is not a regular expression"),
        (".*", "every parameter is frozen"),
    ],
)
def test_wrong_patterns(patterns, message):
    with pytest.raises(UserError, match=f"config key train.freeze: {message}"):
        frozen_rule(patterns)(variables()["params"])


def test_frozen_parameters_stay_and_everything_else_moves():
    changed, momentum, metrics = changed_by_training("stem/.* stage1_.*", partial_bn=False)
    names = paths(variables())
    frozen = {name for name in names if name.startswith(("params/stem/", "params/stage1_"))}
    # Running statistics of all blocks too: a frozen kernel's output still is what it is.
    assert changed == set(names) - frozen
    for name, leaf in momentum.items():
        assert np.any(leaf != 0) == (f"params/{name}" not in frozen), name
    assert metrics["grad_norm"] > 0


def test_only_the_head():
    """No group of the recipe has a parameter of its own left but the head's: that is no error."""
    _, _, whole = changed_by_training("", partial_bn=False)
    changed, _, metrics = changed_by_training("stem/.* stage.*", partial_bn=False)
    assert {name for name in changed if name.startswith("params/")} == {
        "params/head/kernel",
        "params/head/bias",
    }
    assert metrics["grad_norm"] < whole["grad_norm"]


def test_partial_bn_keeps_statistics():
    changed, _, _ = changed_by_training("", partial_bn=True)
    held = {
        name
        for name in paths(variables())
        if "bn" in name and name.split("/")[1].startswith("stage") and "/attention/" not in name
    }
    assert changed == set(paths(variables())) - held
    assert {name for name in held if name.startswith("batch_stats/")}
