"""Attention-in-Attention video classification in JAX (Hao et al., IEEE TCSVT 2022)."""

from aia_jax.models import create_model

__all__ = ["create_model"]
