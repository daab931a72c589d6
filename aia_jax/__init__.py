"""Attention-in-Attention video classification in JAX (Hao et al., IEEE TCSVT 2022)."""

from typing import Any

__all__ = ["create_model"]


def __getattr__(name: str) -> Any:
    # Processes that decode and write videos import this package too; jax and flax would be most of their start.
    if name == "create_model":
        from aia_jax.models import create_model

        return create_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
