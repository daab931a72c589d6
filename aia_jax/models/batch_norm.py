"""Batch normalisation over the whole batch, or over groups of rows as the paper's runs had it."""

import flax.linen as nn
import jax.numpy as jnp

from aia_jax.ops import fold_frames, normalize_batch, unfold_frames
from aia_jax.ops.batch_norm import group_count, running_average
from aia_jax.ops.frames import time_parts
from aia_jax.shapes import Array, Float


class BatchNorm(nn.BatchNorm):
    """Flax's BatchNorm with a gradient that stores less, and with statistics of groups of rows.

    Rows are positions of the first axis: frames, [B·T, H, W, C]. In training, a group's rows are
    normalised by the group's own mean and variance; in PyTorch a group is what one GPU holds, 8
    clips say. The running statistics take the mean over groups of the mean and of the biased
    variance, where the reference takes those of the first GPU's group only. Variables are those of
    `nn.BatchNorm`.

    On a mesh, devices exchange sums only for a group whose rows lie on several of them. The running
    statistics need sums over all devices, but nothing else in the step waits for them.

    Attributes:
        group_rows: rows of a group; 0: all rows are one group.
        frames: of a clip, where rows are frames in the order of `fold_frames`; 0: they are not.
    """

    group_rows: int = 0
    frames: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "n ... c"]) -> Float[Array, "n ... c"]:
        """Normalises each channel.

        Raises:
            ValueError: if the rows do not split into groups.
        """
        if self.use_running_average or self.is_initializing():
            return super().__call__(x)
        channels, groups = x.shape[-1], group_count(x.shape[0], self.group_rows)
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (channels,), self.param_dtype)
        # A mesh that splits the frames of clips changes the order of the rows: groups of rows are
        # groups of clips then.
        by_clips = groups > 1 and self.frames > 0 and time_parts() > 1
        if by_clips:
            x = unfold_frames(x, self.frames)
        y, mean, var = normalize_batch(x, scale, bias, groups, self.epsilon)
        if by_clips:
            y = fold_frames(y)
        for name, statistic in (("mean", mean), ("var", var)):
            # The variable exists since the initialisation, so the zeros are never used.
            running = self.variable("batch_stats", name, jnp.zeros, (channels,))
            running.value = running_average(running.value, statistic, self.momentum)
        return y.astype(self.dtype or y.dtype)
