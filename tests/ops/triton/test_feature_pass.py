"""The kernel of a pass over a feature, interpreted, against NumPy."""

import os
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops.triton.feature_pass import Reduction, feature_pass
from tests.helpers.paths import ROOT
from tests.helpers.quick_jit import quick_jit


def body(features, planes, round_to_dtype):
    x, other = features
    refined = round_to_dtype(x * ((planes[0] + planes[1] + planes[2]) * (1 / 3)))
    return refined, other * x, x * planes[3] + other


def by_numpy(features, planes, reductions, writes):
    """What `feature_pass` computes, float32 but for the roundings to the features' dtype."""
    dtype = features[0].dtype
    values = body(
        [feature.astype("f4") for feature in features],
        [np.expand_dims(plane.astype("f4"), axis) for axis, plane in enumerate(planes, 1)],
        lambda value: value.astype(dtype).astype("f4"),
    )
    results = []
    for index, axis, kind in reductions:
        value = values[index]
        maximum = value.max(axis, keepdims=True)
        results += {
            "sum": [value.sum(axis)],
            "pool": [maximum.squeeze(axis), value.mean(axis)],
            "ties": [maximum.squeeze(axis), value.mean(axis), (value == maximum).sum(axis)],
        }[kind]
    return [result.astype(dtype) for result in results] + [
        values[index].astype(dtype) for index, dtype in writes
    ]


EVERY_AXIS = [Reduction(0, axis, "ties") for axis in (1, 2, 3, 4)] + [
    Reduction(1, axis, "sum") for axis in (1, 2, 3, 4)
]


@pytest.mark.parametrize(
    ("shape", "dtype", "reductions"),
    [
        # Two traversals of several tiles, the last one with missing rows; missing columns.
        ((2, 2, 5, 9, 24), jnp.bfloat16, EVERY_AXIS),
        # Tiles without missing elements; sums along one axis, over W.
        ((1, 3, 2, 8, 16), jnp.float32, [Reduction(0, 3, "ties"), Reduction(1, 1, "sum")]),
        # Without sums along the first traversal's axis: two steps at once.
        ((3, 2, 8, 6, 12), jnp.bfloat16, [Reduction(2, 3, "pool"), Reduction(2, 4, "pool")]),
        ((2, 2, 1, 1, 1), jnp.float32, [Reduction(1, 3, "sum")]),
    ],
)
def test_the_kernel_s_numbers_are_numpy_s(shape, dtype, reductions, interpreter):
    rng = np.random.default_rng(0)
    features = [rng.normal(size=shape).round(1).astype(dtype) for _ in range(2)]  # equal maxima
    planes = [
        rng.uniform(size=np.delete(shape, axis)).round(1).astype(dtype) for axis in (1, 2, 3, 4)
    ]
    writes = ((2, dtype), (0, jnp.float32))
    results = quick_jit(
        lambda *operands: feature_pass(
            body, operands[:2], operands[2:], (1, 2, 3, 4), reductions, writes
        )
    )(*features, *planes)
    for ours, expected in zip(results, by_numpy(features, planes, reductions, writes), strict=True):
        assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(
            ours.astype("f4"),
            expected.astype("f4"),
            rtol=1e-5 if ours.dtype == jnp.float32 else 1e-2,
            atol=1e-5,
        )


def test_devices_of_a_mesh_compute_their_own_clips():
    program = """
        import jax, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from aia_jax.ops.triton.feature_pass import Reduction, feature_pass
        from tests.helpers.triton_kernels import interpreted_kernels

        def run(x, plane):
            body = lambda features, planes, round_to_dtype: (features[0] * planes[0],)
            reductions = [Reduction(0, 1, "pool"), Reduction(0, 3, "sum")]
            return feature_pass(body, (x,), (plane,), (4,), reductions, ((0, x.dtype),))

        x = np.random.default_rng(0).normal(size=(4, 2, 2, 3, 4)).astype("f4")
        y = x * x[..., :1]
        mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "time"))
        with interpreted_kernels():
            for clips in (P("data"), P(("data", "time")), P("data", "time"), P()):
                sharding = NamedSharding(mesh, clips)
                operands = [jax.device_put(array, sharding) for array in (x, x[..., 0])]
                compiled = jax.jit(run).lower(*operands).compile()
                for ours, expected in zip(
                    compiled(*operands), (y.max(1), y.mean(1), y.sum(3), y), strict=True
                ):
                    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
                    assert ours.sharding.spec[:1] == clips[:1], ours.sharding
                # Frames of a clip on several devices have to meet.
                assert ("all-gather" in compiled.as_text()) == (clips == P("data", "time"))
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
