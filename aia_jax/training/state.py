"""What a training step reads and writes: one pytree, so that it can be donated, sharded and saved
as a whole.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from aia_jax.shapes import PyTree


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step. Random numbers are not here: every step folds its
    number into the run's key.

    Attributes:
        step: optimiser steps done, an int32 scalar.
        params: float32 parameters.
        batch_stats: running mean and variance of BatchNorm, float32.
        opt_state: the optimiser's state: a momentum of the parameters' shapes, and a count.
        ema: moving average {"params", "batch_stats"}, or None when it is off.
    """

    step: Any  # no shapes here: the same tree also holds shardings and abstract leaves
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: PyTree

    @classmethod
    def create(
        cls, variables: PyTree, tx: optax.GradientTransformation, *, ema: bool = False
    ) -> "TrainState":
        """The state before the first step.

        Call it under `jax.jit` with `out_shardings` to have every leaf made where it belongs, or
        under `jax.eval_shape` for the abstract state that `Checkpoints.restore` takes.

        Args:
            variables: {"params"} and, for nets with BatchNorm, {"batch_stats"}, from `model.init`
                or from converted weights.
            ema: keep a moving average, which starts as a copy of the variables.

        Raises:
            UserError: the optimiser's groups do not fit the parameters.
        """
        params = jax.tree.map(jnp.asarray, variables["params"])
        batch_stats = jax.tree.map(jnp.asarray, variables.get("batch_stats", {}))
        # A copy, as the step donates the state and no buffer can be donated twice.
        average = (
            jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else None
        )
        return cls(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params), average)

    def eval_variables(self) -> PyTree:
        """{"params", "batch_stats"} to evaluate with: the moving average where there is one."""
        return (
            self.ema
            if self.ema is not None
            else {"params": self.params, "batch_stats": self.batch_stats}
        )
