"""A train state of a few numbers, and how to tell that two are the same bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aia_jax.training.state import TrainState

META = {"metrics": {"top1": 0.5}, "position": 7, "class_names": ["left", "right"]}
TX = optax.sgd(0.1, momentum=0.9)


def make_state(seed=0, width=4, ema=False):
    rng = np.random.default_rng(seed)
    variables = {
        "params": {
            "head": {
                "kernel": rng.normal(size=(3, width)).astype("f4"),
                "bias": rng.normal(size=width).astype("f4"),
            }
        },
        "batch_stats": {"bn": {"mean": rng.normal(size=3).astype("f4")}},
    }
    return TrainState.create(variables, TX, ema=ema).replace(step=jnp.asarray(seed, jnp.int32))


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
