"""The kernels for NVIDIA GPUs, in Pallas's interpreter, against the stencil and its gradients."""

import jax
import numpy as np
import pytest

from aia_jax.ops import stencil
from aia_jax.ops.gpu_stencil import correlate, gradient


def clip_gradients(of_response, maximum, mean, kernel):
    """Those of every clip by itself."""

    def of_clip(of_response, *planes):
        _, pullback = jax.vjp(stencil, *(plane[None] for plane in planes), kernel)
        of_maximum, of_mean, of_kernel = pullback(of_response[None])
        return of_maximum[0], of_mean[0], of_kernel

    return jax.vmap(of_clip)(of_response, maximum, mean)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 5, 7),
        (1, 1, 12, 11),  # more positions of a layer than a program takes
        (499, 5, 2, 1),  # so many clips that a program takes several rows, and the last one of a clip fewer
    ],
)
def test_kernels_equal_the_stencil_and_its_gradients(shape):
    rng = np.random.default_rng(0)
    of_response, maximum, mean = rng.normal(size=(3, *shape)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    np.testing.assert_allclose(correlate(maximum, mean, kernel, interpret=True), stencil(maximum, mean, kernel), atol=2e-5)
    ours = gradient(of_response, maximum, mean, kernel, interpret=True)
    for a, b in zip(ours, jax.jit(clip_gradients)(of_response, maximum, mean, kernel), strict=True):
        np.testing.assert_allclose(a, b, atol=6e-5)
