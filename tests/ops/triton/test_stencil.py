"""The stencil's kernels, interpreted, against NumPy."""

import itertools

import jax.numpy as jnp
import numpy as np

from aia_jax.ops.triton import stencil_grid
from aia_jax.ops.triton.stencil import num_partial_sums, stencil, stencil_gradient
from aia_jax.ops.triton.stencil_gradient_kernel import stencil_gradient_kernel
from aia_jax.ops.triton.stencil_kernel import stencil_kernel
from tests.helpers.quick_jit import quick_jit

SHIFTS = list(itertools.product(range(3), repeat=3))


def shifted(plane):
    """The plane as every shift sees it, [27, b, i, j, k]."""
    _, i, j, k = plane.shape
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1), (1, 1)))
    return np.stack([padded[:, x : x + i, y : y + j, z : z + k] for x, y, z in SHIFTS])


def correlate(maximum, mean, kernel):
    planes = np.stack([shifted(maximum), shifted(mean)], -1)
    return np.einsum("nbijkp,np->bijk", planes, kernel.reshape(27, 2))


def gradient(dy, maximum, mean, kernel):
    """dmaximum, dmean, and dkernel of every clip."""
    dplanes = np.einsum("nbijk,np->pbijk", shifted(dy), kernel[::-1, ::-1, ::-1].reshape(27, 2))
    planes = np.stack([shifted(maximum), shifted(mean)], -1)
    dkernels = np.einsum("nbijkp,bijk->bnp", planes, dy).reshape(-1, 3, 3, 3, 2)
    return *dplanes, dkernels


def planes_and_kernel(shape):
    rng = np.random.default_rng(0)
    return *rng.normal(size=(3, *shape)).astype("f4"), rng.normal(size=(3, 3, 3, 2)).astype("f4")


def test_planes_of_several_programs_rows_and_lines(monkeypatch, interpreter):
    # As a GPU busy with more clips would divide the work. A row has 45 columns for 2 x 32 threads,
    # the last threads' second line does not exist, and the last program has a row less.
    shape = (2, 5, 9, 9)
    division = stencil_grid.Division(threads=32, lines=2, rows=2, programs_per_row=2, chunks=3)
    monkeypatch.setattr(stencil_grid, "_divide", lambda *_, **__: division)
    dresponse, maximum, mean, kernel = planes_and_kernel(shape)
    expected = correlate(maximum, mean, kernel)
    response, sums = quick_jit(lambda *operands: stencil_kernel(*operands, with_sums=True))(
        maximum, mean, kernel
    )
    np.testing.assert_allclose(response, expected, atol=2e-5)
    assert sums.shape == (2, num_partial_sums(shape), 2) == (2, 6, 2)
    clip_sums = [values.sum((1, 2, 3)) for values in (expected, np.square(expected))]
    np.testing.assert_allclose(sums.sum(1), np.stack(clip_sums, -1), rtol=1e-4, atol=1e-3)
    ours = quick_jit(lambda *operands: stencil_gradient_kernel(*operands, None, 1.0))(
        dresponse, maximum, mean, kernel
    )
    for a, b in zip(ours, gradient(dresponse, maximum, mean, kernel), strict=True):
        np.testing.assert_allclose(a, b, atol=6e-5)


def test_half_precision_planes_with_ties_and_a_factor(interpreter):
    dresponse, maximum, mean, kernel = planes_and_kernel((2, 3, 5, 4))
    maximum, mean = maximum.astype(jnp.bfloat16), mean.astype(jnp.bfloat16)
    in_float32 = maximum.astype("f4"), mean.astype("f4")
    response = quick_jit(stencil)(maximum, mean, kernel)
    assert response.dtype == jnp.float32
    np.testing.assert_allclose(response, correlate(*in_float32, kernel), atol=2e-5)

    ties = np.random.default_rng(1).integers(1, 5, size=maximum.shape).astype(jnp.bfloat16)
    ours = quick_jit(lambda *operands: stencil_gradient(*operands, mean_factor=0.25))(
        dresponse, maximum, mean, kernel, ties
    )
    assert [a.dtype for a in ours] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    dmaximum, dmean, dkernels = gradient(dresponse, *in_float32, kernel)
    for a, b in zip(ours[:2], (dmaximum / ties.astype("f4"), dmean * 0.25), strict=True):
        np.testing.assert_allclose(a.astype("f4"), b, rtol=2**-8, atol=2e-5)
    np.testing.assert_allclose(ours[2], dkernels.sum(0), atol=6e-5)
