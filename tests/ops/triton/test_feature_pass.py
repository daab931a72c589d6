"""Kernels that pass over a feature, run by Pallas' interpreter, against XLA's operations."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.triton.feature_pass import Reduction, feature_pass
from tests.helpers.paths import ROOT


def product_and_more(features, planes, rounded):
    x, other = features
    refined = rounded(x * ((planes[0] + planes[1] + planes[2]) * (1 / 3)))
    return refined, other * x, x * planes[3] + other


EVERY_AXIS = [Reduction(0, axis, "ties") for axis in (1, 2, 3, 4)] + [
    Reduction(1, axis, "sum") for axis in (1, 2, 3, 4)
]


@pytest.mark.parametrize(
    ("shape", "dtype", "reductions"),
    [
        ((2, 3, 4, 5, 6), jnp.bfloat16, EVERY_AXIS),
        ((1, 8, 7, 7, 16), jnp.float32, EVERY_AXIS),
        ((3, 1, 9, 6, 12), jnp.bfloat16, [Reduction(2, 3, "pool"), Reduction(2, 4, "pool")]),
        ((2, 2, 1, 1, 1), jnp.float32, [Reduction(1, 3, "sum")]),
    ],
)
def test_a_kernel_s_numbers_are_xla_s(shape, dtype, reductions):
    rng = np.random.default_rng(0)
    features = [
        jnp.asarray(rng.normal(size=shape).round(1), dtype) for _ in range(2)
    ]  # with equal maxima
    planes = [
        jnp.asarray(rng.uniform(size=np.delete(shape, axis)).round(1), dtype)
        for axis in (1, 2, 3, 4)
    ]
    writes = ((2, dtype), (0, jnp.float32))

    def results(interpret):
        return jax.jit(
            lambda *a: feature_pass(
                product_and_more, a[:2], a[2:], (1, 2, 3, 4), reductions, writes, interpret
            )
        )(*features, *planes)

    for ours, xla in zip(results(True), results(False), strict=True):
        assert (ours.shape, ours.dtype) == (xla.shape, xla.dtype)
        np.testing.assert_allclose(
            ours.astype("f4"),
            xla.astype("f4"),
            rtol=1e-5 if ours.dtype == jnp.float32 else 1e-2,
            atol=1e-5,
        )


def test_devices_of_a_mesh_compute_their_own_clips():
    program = """
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from aia_jax.ops.triton.feature_pass import Reduction, feature_pass

        def run(x, plane, interpret=True):
            body = lambda features, planes, rounded: (features[0] * planes[0],)
            return feature_pass(body, (x,), (plane,), (4,), [Reduction(0, 1, "ties"), Reduction(0, 3, "sum")], ((0, x.dtype),), interpret)

        x = np.random.default_rng(0).normal(size=(4, 2, 2, 3, 4)).astype("f4")
        mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "time"))
        for clips in (P("data"), P(("data", "time")), P("data", "time"), P()):
            placed = [jax.device_put(array, NamedSharding(mesh, clips)) for array in (x, x[..., 0])]
            compiled = jax.jit(run).lower(*placed).compile()
            for ours, expected in zip(compiled(*placed), run(x, x[..., 0], False), strict=True):
                np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
                assert ours.sharding.spec[:1] == clips[:1], ours.sharding
            assert ("all-gather" in compiled.as_text()) == (clips == P("data", "time"))  # frames of a clip have to meet
    """
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
