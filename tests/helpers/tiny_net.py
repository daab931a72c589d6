"""A network of a few numbers with batches and train states for it, for tests of steps."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aia_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalize
from aia_jax.training.state import TrainState

CLASSES = 3


class TinyNet(nn.Module):
    """A clip's mean colour through a dense layer, BatchNorm, dropout and a head."""

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    dropout: float = 0.0
    batch_norm: bool = True

    @nn.compact
    def __call__(self, clips, train=False):
        x = nn.Dense(4)(clips.mean((1, 2, 3)))
        if self.batch_norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
        return nn.Dense(CLASSES)(x)


def make_batch(size, seed=0):
    """Random pixels, uint8 [size, 2, 4, 4, 3], and labels."""
    rng = np.random.default_rng(seed)
    return {
        "clips": jnp.asarray(rng.integers(0, 256, (size, 2, 4, 4, 3), dtype=np.uint8)),
        "labels": jnp.asarray(rng.integers(0, CLASSES, size, dtype=np.int32)),
    }


@functools.cache
def make_variables(model):
    """The model's initial variables."""
    return jax.jit(model.init)(jax.random.key(0), normalize(make_batch(2)["clips"]))


def make_state(model, tx, **options):
    """The model's first train state."""
    return TrainState.create(jax.tree.map(np.asarray, make_variables(model)), tx, **options)
