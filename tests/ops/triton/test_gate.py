"""A unit's gates in kernels, run by Pallas' interpreter, against stencil, batch normalisation and
sigmoid.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import batch_normalized_sigmoid, shares, stencil
from aia_jax.ops.triton import gate as gpu_gate
from aia_jax.ops.triton import stencil_kernel as gpu_stencil

LENGTH = 8


def composed(groups, maximum, mean, ties, kernel, scale, bias):
    maximum, mean = shares(maximum, mean, ties, LENGTH)
    gates, *statistics = batch_normalized_sigmoid(
        stencil(maximum, mean, kernel)[..., None], scale, bias, groups, 1e-5
    )
    return gates[..., 0], *statistics


def with_gradient(function, operands):
    results, gradient = jax.vjp(function, *operands)
    return results, gradient((jnp.sin(5 * results[0]), *map(jnp.zeros_like, results[1:])))


@pytest.mark.parametrize("groups", [1, 2])
def test_numbers_are_those_of_the_composition(groups, monkeypatch):
    interpreted = functools.partial(functools.partial, interpret=True)
    monkeypatch.setattr(
        gpu_gate, "elementwise_by_kernel", interpreted(gpu_gate.elementwise_by_kernel)
    )
    monkeypatch.setattr(gpu_gate, "sums_by_kernel", interpreted(gpu_gate.sums_by_kernel))
    for name in ("correlate_and_sum", "gradient"):
        monkeypatch.setattr(gpu_stencil, name, interpreted(getattr(gpu_stencil, name)))
    rng = np.random.default_rng(0)
    planes = [rng.normal(size=(4, 3, 7, 9)).astype("f4") for _ in range(2)]
    planes.append(rng.integers(1, 4, planes[0].shape).astype("f4"))
    operands = [
        *planes,
        rng.normal(size=(3, 3, 3, 2)).astype("f4"),
        np.float32([1.3]),
        np.float32([-0.2]),
    ]
    expected = with_gradient(functools.partial(composed, groups), operands)

    def ours(*operands):
        return gpu_gate.gate(*operands, LENGTH, groups, 1e-5)

    plain = with_gradient(ours, operands)
    jax.clear_caches()  # the choice between kernels and XLA is part of what is traced once
    with monkeypatch.context() as patch:
        patch.setattr(
            jax.lax,
            "platform_dependent",
            lambda *operands, default, cuda=None, **_: (cuda or default)(*operands),
        )
        kernels = with_gradient(ours, operands)
    jax.clear_caches()
    for results in (plain, kernels):
        for a, b in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_more_elements_than_a_program_has_and_a_ragged_end(monkeypatch):
    rng = np.random.default_rng(0)
    planes = [rng.normal(size=(2, 9, 30, 31)).astype("f4") for _ in range(3)]
    sums = gpu_gate.sums_by_kernel(*planes, interpret=True)[0].sum(1)
    through = planes[0] * planes[1] * (1 - planes[1])
    np.testing.assert_allclose(
        sums,
        np.stack([through.sum((1, 2, 3)), (through * planes[2]).sum((1, 2, 3))], -1),
        rtol=1e-3,
        atol=1e-2,
    )
    moments = np.float32([[0.5, 1.5], [0.25, 2.0]])
    out = gpu_gate.elementwise_by_kernel(
        lambda x, m, s: x * m[0] + m[1] * s,
        (planes[0],),
        (moments,),
        (np.float32([3.0]),),
        "float32",
        True,
    )
    np.testing.assert_allclose(
        out,
        planes[0] * moments[:, 0, None, None, None] + 3 * moments[:, 1, None, None, None],
        rtol=1e-6,
    )
