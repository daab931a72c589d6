"""What a training step reads and writes: one pytree, donated, sharded and saved as a whole."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from aia_jax.shapes import PyTree


class TrainState(flax.struct.PyTreeNode):
    """All that a run carries from step to step.

    Random numbers are not here: every step folds its number into the run's key.

    Attributes:
        step: optimiser steps done, an int32 scalar.
        params: float32 parameters.
        batch_stats: running mean and variance of BatchNorm, float32; {} for a network without.
        opt_state: the optimiser's state: one or two moments of the parameters' shapes, and counts.
        ema: the variables that are evaluated, {"params", "batch_stats"}, where they are not the
            trained ones: their moving average. None where there is none.
        method_state: what the training method keeps beside the model, such as a second module, its
            optimiser and whatever a later step needs of this one; {} if nothing.
    """

    step: Any  # no shapes here: the same tree also holds shardings and abstract leaves
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: PyTree
    method_state: PyTree = flax.struct.field(default_factory=dict)

    @classmethod
    def create(
        cls,
        variables: PyTree,
        tx: optax.GradientTransformation,
        *,
        ema: bool = False,
        method_state: PyTree = None,
    ) -> "TrainState":
        """The state before the first step.

        Call it under `jax.jit` with `out_shardings` to have every leaf made on its own devices, or
        under `jax.eval_shape` for the abstract state that `Checkpoints.restore` takes.

        Args:
            variables: {"params"} and, for networks with BatchNorm, {"batch_stats"}, from
                `model.init` or from converted weights.
            tx: the optimiser of the parameters.
            ema: keep a moving average, which starts as a copy of the variables.
            method_state: see the attribute.

        Raises:
            UserError: the optimiser's groups do not fit the parameters.
        """
        params = jax.tree.map(jnp.asarray, variables["params"])
        batch_stats = jax.tree.map(jnp.asarray, variables.get("batch_stats", {}))
        average = None
        if ema:
            # The step donates the state, and a buffer that stands in it twice cannot be donated.
            average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=tx.init(params),
            ema=average,
            method_state={} if method_state is None else method_state,
        )

    def eval_variables(self) -> PyTree:
        """{"params", "batch_stats"} to evaluate with: the moving average where there is one."""
        if self.ema is not None:
            return self.ema
        return {"params": self.params, "batch_stats": self.batch_stats}
