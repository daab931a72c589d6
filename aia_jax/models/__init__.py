"""The networks, as flax Linen modules. Everything here needs jax, flax and numpy only."""

from aia_jax.models.video_net import VideoNet, create_model

__all__ = ["VideoNet", "create_model"]
