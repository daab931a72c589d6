"""A row for the table of networks that has nothing of a ResNet.

It has no stages and no batch normalisation, takes segments of five frames, attends between the
patches of a frame, and its head sees a token.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.models import NETWORKS, Network
from aia_jax.models.fields import require
from tests.helpers import other_torch_names

PATCH = 4


class Mix(nn.Module):
    """Attention of all tokens to one another, with a gate for each channel of a clip."""

    products_in_macs = False

    def product_macs(self, shape):
        *rows, tokens, channels = shape
        return 2 * int(np.prod(rows)) * tokens**2 * channels

    @nn.compact
    def __call__(self, x):  # [B, T, N, C]
        queries = nn.Dense(x.shape[-1], use_bias=False, dtype=x.dtype, name="query")(x)
        shares = nn.softmax((queries @ x.swapaxes(-1, -2)).astype(jnp.float32)).astype(x.dtype)
        gate = nn.sigmoid(x.mean((1, 2), keepdims=True))
        self.sow("intermediates", "gate_channels", gate)
        return gate * (shares @ x)


class OtherNetwork(nn.Module):
    """A mean of each segment's frames, patches, one round of attention, a head on the token."""

    num_classes: int
    num_frames: int = 8
    mixing: str = "none"
    dropout: float = 0.25
    sizes: tuple[int, ...] = ()
    channels: int = 4
    dtype: Any = jnp.bfloat16

    mean = np.array([0.5, 0.5, 0.5], np.float32)
    std = np.array([0.25, 0.5, 1.0], np.float32)
    segment_frames = 5
    optim_groups = (
        (r".*/kernel", {"lr": 1.0, "decay": 1.0}),
        (r"frames|class_token", {"lr": 3.0, "decay": 0.0}),
        (r".*/(scale|bias)", {"lr": 2.0, "decay": 0.0}),
    )
    cam_layer = "norm"

    def check(self):
        require(self.mixing in ("none", "KV"), "mixing", self.mixing, "none or KV")

    def describe(self):
        return f"Other with mixing {self.mixing}"

    def variants(self):
        return [{"mixing": "none"}, {"mixing": "KV"}]

    def frame_map(self, output, clips):
        batch, frames, height, width, _ = clips
        grid = height // PATCH, width // PATCH
        rows = batch, frames // self.segment_frames
        if output.shape[:-1] != (*rows, 1 + grid[0] * grid[1]):
            return None
        return output[:, :, 1:].reshape(*rows, *grid, -1)

    def features(self, clips, train=False):
        return self.frame_map(self._run(clips, train, head=False), clips.shape)

    def embed(self, clips, train=False):
        return self._run(clips, train, head=False)[:, :, 0].astype(jnp.float32)

    def __call__(self, clips, train=False):
        return self._run(clips, train, head=True)

    @nn.compact
    def _run(self, clips, train, head):
        batch, _, height, width, _ = clips.shape
        segments = clips.reshape(batch, -1, self.segment_frames, height, width, 3)
        shares = self.param("frames", nn.initializers.constant(0.2), (self.segment_frames,))
        x = jnp.einsum("btshwc,s->bthwc", segments, shares)
        x = nn.Conv(self.channels, (PATCH, PATCH), PATCH, dtype=self.dtype, name="patches")(x)
        x = x.reshape(batch, x.shape[1], -1, self.channels)
        token = self.param("class_token", nn.initializers.normal(1.0), (1, 1, self.channels))
        token = jnp.broadcast_to(token.astype(x.dtype), (batch, x.shape[1], 1, self.channels))
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(jnp.concatenate([token, x], 2))
        x = x + Mix(name="mix")(x)
        if not head:
            return x
        x = nn.Dropout(self.dropout, deterministic=not train)(x[:, :, 0].astype(jnp.float32))
        return nn.Dense(self.num_classes, name="head")(x).mean(1)


@pytest.fixture
def other_network(monkeypatch):
    """Adds the row "other" to the table."""
    monkeypatch.setitem(NETWORKS, "other", Network(OtherNetwork, other_torch_names))
    return OtherNetwork
