"""Where kernels are used, and what JAX says about them."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from aia_jax.errors import UserError
from aia_jax.ops.triton import is_used, use_gpu_kernels, without_gpu_kernels
from aia_jax.ops.triton.availability import ENVIRONMENT_VARIABLE, MAX_FRAMES
from aia_jax.ops.triton.stencil import stencil
from tests.helpers.triton_kernels import lowered_text

JAX_VERSION = tuple(map(int, jax.__version__.split(".")[:2]))


def test_a_machine_without_a_gpu_uses_none_unless_it_is_told_to(monkeypatch):
    x = jnp.zeros((1, 8, 2, 2, 4))
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    assert not is_used(x)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "1")
    assert is_used(x)
    with without_gpu_kernels():
        assert not is_used(x)


def test_clips_of_many_frames_are_left_to_xla(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "1")
    assert is_used(jnp.zeros((1, MAX_FRAMES, 2, 2, 4)))
    assert not is_used(jnp.zeros((1, MAX_FRAMES + 1, 2, 2, 4)))


def test_the_environment_variable_takes_no_other_value(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "off")
    with pytest.raises(UserError, match="AIA_GPU_KERNELS is 'off'"):
        use_gpu_kernels(jnp.zeros(3))


def test_jax_warns_of_its_triton_backend_since_0_11():
    """JAX will remove the backend; docs/architecture.md says what is lost then.

    JAX warns while it lowers a kernel. Python shows a DeprecationWarning to users only where their
    own script calls what is deprecated, so nobody but this test sees it.
    """
    plane, kernel = jnp.zeros((1, 2, 3, 4)), jnp.zeros((3, 3, 3, 2))
    if JAX_VERSION >= (0, 11):
        with pytest.warns(DeprecationWarning, match="Triton backend is deprecated"):
            text = lowered_text(stencil, plane, plane, kernel, platform="cuda")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            text = lowered_text(stencil, plane, plane, kernel, platform="cuda")
    assert "gpu.triton" in text
