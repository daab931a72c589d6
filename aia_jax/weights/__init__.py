"""Weights of PyTorch networks as this project's variables, and the other way round.

`python -m aia_jax.weights DIR --format NAME --out FILE` writes weights for PyTorch, with `--hub
FOLDER` in the form of model hubs.
"""

from aia_jax.weights.convert import from_torch, load_matching, load_own
from aia_jax.weights.convert_back import to_torch
from aia_jax.weights.names import WeightsError

__all__ = ["WeightsError", "from_torch", "load_matching", "load_own", "to_torch"]
