"""From prepared TFRecord shards to batches on the mesh."""

from aia_jax.data import sampling

__all__ = ["sampling"]
