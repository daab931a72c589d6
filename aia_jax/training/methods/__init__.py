"""Ways to train: each says what a step does and what it keeps beside the model.

A method is one file here and one row in `METHODS`; `config.train.method` names it. The file offers
`make_method(config, model, tx, frozen, objective) -> Method`:

* `config` is the run's whole config. A method with settings of its own has a section in
  configs/base.py.
* `model` is the network in its form for training, `tx` the optimiser of its parameters
  (`make_optimizer`), `frozen` the rule of what is not trained (`frozen_rule`).
* `objective` is what logits are compared with (`make_objective`): targets and losses, with label
  smoothing, weights of the classes, and one label a video or several.

A method with a second network or optimiser keeps them in `TrainState.method_state`, where they are
sharded, saved and restored with the rest. A method whose teacher is what gets evaluated keeps the
teacher in `TrainState.ema`: validation, checkpoints, eval.py and exports take that by themselves.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import optax

from aia_jax.errors import UserError
from aia_jax.training.freezing import Frozen
from aia_jax.training.methods import supervised, svmix
from aia_jax.training.objective import Objective
from aia_jax.training.step import Method

# The config is a ConfigDict; it is Any here so that steps can be built without ml_collections.
MakeMethod = Callable[[Any, nn.Module, optax.GradientTransformation, Frozen, Objective], Method]

METHODS: Mapping[str, MakeMethod] = {
    "supervised": supervised.make_method,
    "svmix": svmix.make_method,
}

__all__ = ["METHODS", "Method", "make_method"]


def make_method(
    config: Any,
    model: nn.Module,
    tx: optax.GradientTransformation,
    frozen: Frozen,
    objective: Objective,
) -> Method:
    """The method that `config.train.method` names.

    Raises:
        UserError: there is no such method; lists those there are.
    """
    name: Any = config.train.method
    if name not in METHODS:
        raise UserError(f"config key train.method: found {name!r}, expected {' or '.join(METHODS)}")
    return METHODS[name](config, model, tx, frozen, objective)
