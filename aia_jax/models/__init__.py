"""The networks, as flax Linen modules. Everything here needs jax, flax and numpy only."""

from aia_jax.models.resnet.modeling import VideoNet, create_model

__all__ = ["VideoNet", "create_model"]
