"""Depthwise convolutions written tap by tap, against PyTorch."""

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from aia_jax.ops.depthwise import halve_depthwise


def channels_second(x):
    """[B, T, H, W, C] → [B, C, T, H, W]."""
    return torch.tensor(np.moveaxis(x, -1, 1)).requires_grad_()


def channels_last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("shape", [(2, 3, 7, 4, 5), (1, 1, 1, 2, 3)])
def test_halving_is_a_convolution_of_groups_of_one_channel(shape, frames):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=shape), rng.normal(size=(frames, 3, 3, shape[-1]))
    xs, weight = channels_second(x), torch.tensor(np.moveaxis(kernel, -1, 0)[:, None])
    weight.requires_grad_()
    expected = functional.conv3d(
        xs, weight, stride=(1, 2, 2), padding=(frames // 2, 1, 1), groups=shape[-1]
    )
    (expected**2).sum().backward()
    with jax.enable_x64(True):
        found = halve_depthwise(x, kernel)
        dx, dkernel = jax.jit(
            jax.grad(lambda x, kernel: (halve_depthwise(x, kernel) ** 2).sum(), argnums=(0, 1))
        )(x, kernel)
    tolerance = {"rtol": 1e-10, "atol": 1e-10}
    np.testing.assert_allclose(found, channels_last(expected), **tolerance)
    np.testing.assert_allclose(dx, channels_last(xs.grad), **tolerance)
    np.testing.assert_allclose(dkernel, np.moveaxis(weight.grad[:, 0].numpy(), 0, -1), **tolerance)
