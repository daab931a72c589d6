"""The kernels for NVIDIA GPUs, in Pallas's interpreter, against the stencil and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.stencil.stencil import by_taps, gradient_by_taps
from aia_jax.ops.triton import stencil_kernel as gpu_stencil
from aia_jax.ops.triton.stencil_kernel import correlate, correlate_and_sum, gradient, sums_of_a_clip


@jax.jit
def clip_gradients(of_response, maximum, mean, kernel):
    """Those of every clip by itself."""

    def of_clip(*planes):
        of_maximum, of_mean, of_kernel = gradient_by_taps(
            *(plane[None] for plane in planes), kernel
        )
        return of_maximum[0], of_mean[0], of_kernel

    return jax.vmap(of_clip)(of_response, maximum, mean)


def planes_and_kernel(shape, dtype):
    rng = np.random.default_rng(0)
    planes = jnp.asarray(rng.normal(size=(3, *shape)), dtype)
    return [*planes, jnp.asarray(rng.normal(size=(3, 3, 3, 2)), jnp.float32)]


@pytest.mark.parametrize(
    ("shape", "lines", "rows"),
    [
        ((2, 3, 5, 7), 1, 3),  # more columns of a layer than a program's threads take
        ((2, 5, 7, 9), 2, 2),  # the last program has fewer rows, the last threads fewer lines
    ],
)
def test_kernels_equal_the_stencil_and_its_gradients(monkeypatch, shape, lines, rows):
    # As a GPU busy with more clips would divide the work.
    programs = gpu_stencil._Programs(32, lines, rows, of_a_layer=2, chunks=-(-shape[1] // rows))
    monkeypatch.setattr(gpu_stencil, "_programs", lambda *_, **__: programs)
    of_response, maximum, mean, kernel = planes_and_kernel(shape, jnp.float32)
    expected = by_taps(maximum, mean, kernel)
    response, sums = correlate_and_sum(maximum, mean, kernel, interpret=True)
    np.testing.assert_allclose(response, expected, atol=2e-5)
    assert sums.shape == (*sums_of_a_clip(shape), 2)
    of_clips = [values.sum((1, 2, 3)) for values in (expected, jnp.square(expected))]
    np.testing.assert_allclose(sums.sum(1), np.stack(of_clips, -1), rtol=1e-4, atol=1e-3)
    ours = gradient(of_response, maximum, mean, kernel, interpret=True)
    for a, b in zip(ours, clip_gradients(of_response, maximum, mean, kernel), strict=True):
        np.testing.assert_allclose(a, b, atol=6e-5)


def test_half_precision_planes_with_ties_and_a_share():
    of_response, maximum, mean, kernel = planes_and_kernel((2, 3, 5, 4), jnp.bfloat16)
    in_float32 = [plane.astype(jnp.float32) for plane in (of_response, maximum, mean)]
    response = correlate(maximum, mean, kernel, interpret=True)
    assert response.dtype == jnp.float32
    np.testing.assert_allclose(response, by_taps(*in_float32[1:], kernel), atol=2e-5)

    ties = jnp.asarray(np.random.default_rng(1).integers(1, 5, size=maximum.shape), jnp.bfloat16)
    ours = gradient(
        of_response.astype(jnp.float32), maximum, mean, kernel, ties, 0.25, interpret=True
    )
    assert [a.dtype for a in ours] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    of_maximum, of_mean, of_kernel = clip_gradients(*in_float32, kernel)
    for a, b in zip(ours[:2], (of_maximum / ties, of_mean * 0.25), strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-8, atol=2e-5)
    np.testing.assert_allclose(ours[2], of_kernel, atol=6e-5)
