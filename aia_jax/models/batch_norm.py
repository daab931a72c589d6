"""Batch normalisation over the whole batch, or over groups of clips as the paper's runs had it."""

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.ops import batch_normalized, batch_normalized_sigmoid
from aia_jax.shapes import Array, Float


class BatchNorm(nn.BatchNorm):
    """Flax's BatchNorm that keeps less for the gradient (`ops.batch_normalized`), and whose training statistics may be those of groups of
    rows: torch's on a GPU of 8 clips, say.

    A group's rows are normalised by the group's own mean and variance. The running statistics take the mean over groups of the mean and
    of the (biased) variance; the reference keeps those of the first GPU's group only. Variables are those of `nn.BatchNorm`.

    Only per-row sums of a group ever meet: where a group's rows lie on one device, nothing crosses between devices but the running
    statistics, which no other computation of the step waits for.

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
        rows, channels = x.shape[0], x.shape[-1]
        group_rows = self.group_rows or rows
        if rows % group_rows:
            raise ValueError(f"{rows} rows do not split into groups of {group_rows} for BatchNorm")
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (channels,), self.param_dtype)
        normalized = batch_normalized_sigmoid if self.sigmoid else batch_normalized
        y, *statistics = normalized(x, scale, bias, rows // group_rows, self.epsilon)
        for name, now in zip(("mean", "var"), statistics, strict=True):
            running = self.variable("batch_stats", name, jnp.zeros, (channels,))  # there since the initialisation
            running.value = self.momentum * running.value + (1 - self.momentum) * now.mean(0)
        return y.astype(self.dtype or y.dtype)
