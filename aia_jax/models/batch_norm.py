"""Batch normalisation over the whole batch, or over groups of clips as the paper's runs had it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from aia_jax.ops import batch_normalized, batch_normalized_sigmoid
from aia_jax.shapes import Array, Float


class BatchNorm(nn.BatchNorm):
    """Flax's BatchNorm that keeps less for the gradient (`ops.batch_normalized`), and whose
    training statistics may be those of groups of
    rows: torch's on a GPU of 8 clips, say.

    A group's rows are normalised by the group's own mean and variance. The running statistics take
    the mean over groups of the mean and of the (biased) variance; the reference keeps those of the
    first GPU's group only. Variables are those of `nn.BatchNorm`.

    Only per-row sums of a group ever meet: where a group's rows lie on one device, nothing crosses
    between devices but the running statistics, which no other computation of the step waits for.

    Attributes:
        group_rows: rows (of the first axis) of a group; 0: all rows are one.
        sigmoid: whether to return the sigmoid of what is normalised.
    """

    group_rows: int = 0
    sigmoid: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "n ... c"]) -> Float[Array, "n ... c"]:
        """Normalises each channel.

        Raises:
            ValueError: if the rows do not split into groups.
        """
        if self.use_running_average or self.is_initializing():
            y = super().__call__(x)
            return nn.sigmoid(y) if self.sigmoid else y
        channels, groups = x.shape[-1], group_count(x.shape[0], self.group_rows)
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (channels,), self.param_dtype)
        normalized = batch_normalized_sigmoid if self.sigmoid else batch_normalized
        y, *statistics = normalized(x, scale, bias, groups, self.epsilon)
        for name, now in zip(("mean", "var"), statistics, strict=True):
            running = self.variable(
                "batch_stats", name, jnp.zeros, (channels,)
            )  # there since the initialisation
            running.value = running_average(running.value, now, self.momentum)
        return y.astype(self.dtype or y.dtype)


def group_count(rows: int, group_rows: int) -> int:
    """How many groups rows make; 0 rows a group: one.

    Raises:
        ValueError: if the rows do not split into groups.
    """
    group_rows = group_rows or rows
    if rows % group_rows:
        raise ValueError(f"{rows} rows do not split into groups of {group_rows} for BatchNorm")
    return rows // group_rows


@functools.partial(jax.jit, static_argnums=2)  # traced once
def running_average(
    running: Float[Array, " c"], now: Float[Array, "g c"], momentum: float
) -> Float[Array, " c"]:
    """A running statistic after the groups' statistics of one more batch."""
    return momentum * running + (1 - momentum) * now.mean(0)
