"""The norm of all gradients together."""

import jax
import jax.numpy as jnp
import optax

from aia_jax.shapes import Array, PyTree

_SMALL = 4096  # elements


def global_norm(gradients: PyTree) -> Array:
    """The square root of the sum of all squares, a scalar of the gradients' dtype, as `optax.tree.norm`.

    Small gradients are laid in one vector first. One by one XLA writes into each sum what computed the gradient: for the hundreds of small
    ones that attention has, a third of the time in which a training step compiles.
    """
    leaves = jax.tree.leaves(gradients)
    small = [leaf.ravel() for leaf in leaves if leaf.size < _SMALL]
    large = [leaf for leaf in leaves if leaf.size >= _SMALL]
    return optax.tree.norm([jnp.concatenate(small), *large] if small else large)
