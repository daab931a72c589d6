"""Weights of PyTorch networks as this project's variables, and the other way round.

`python -m aia_jax.weights --to-torch --workdir DIR --out FILE` writes a run's weights for PyTorch.
"""

from aia_jax.weights.convert import from_torch, load_matching, load_own, to_torch
from aia_jax.weights.names import WeightsError

__all__ = ["WeightsError", "from_torch", "load_matching", "load_own", "to_torch"]
