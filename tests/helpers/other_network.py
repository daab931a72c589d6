"""A second row for the table of networks: another field, and no batch normalisation."""

from types import ModuleType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.models import NETWORKS, Network
from aia_jax.models.fields import require


class OtherNetwork(nn.Module):
    """One 1x1 convolution."""

    num_classes: int
    num_frames: int = 8
    shift: str = "none"
    dropout: float = 0.25
    sizes: tuple[int, ...] = ()
    dtype: Any = jnp.bfloat16

    mean = np.array([0.5, 0.5, 0.5], np.float32)
    std = np.array([0.25, 0.5, 1.0], np.float32)

    def check(self):
        require(self.shift in ("none", "KV"), "shift", self.shift, "none or KV")

    def describe(self):
        return f"Other with shift {self.shift}"

    def variants(self):
        return [{"shift": "none"}, {"shift": "KV"}]

    @nn.compact
    def features(self, clips, train=False):
        return nn.Conv(self.num_classes, (1, 1, 1), dtype=self.dtype, name="conv")(clips)

    def __call__(self, clips, train=False):
        return self.features(clips, train).mean((1, 2, 3)).astype(jnp.float32)


@pytest.fixture
def other_network(monkeypatch):
    """Adds the row "other" to the table."""
    row = Network(OtherNetwork, ModuleType("torch_names"))
    monkeypatch.setitem(NETWORKS, "other", row)
    return OtherNetwork
