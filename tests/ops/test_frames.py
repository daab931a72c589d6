"""Clips as rows of frames, on one device and where a mesh splits the frames of a clip."""

import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, use_abstract_mesh

from aia_jax.errors import UserError
from aia_jax.ops import fold_frames, unfold_frames
from aia_jax.ops.triton import is_used
from aia_jax.ops.triton.availability import ENVIRONMENT_VARIABLE
from aia_jax.sharding import AXES
from tests.helpers.paths import ROOT


def mesh_of(data: int, fsdp: int, time: int):
    """Traces as for a mesh of these sizes; no devices are needed."""
    return use_abstract_mesh(AbstractMesh((data, fsdp, time), AXES, (AxisType.Auto,) * 3))


def test_without_a_mesh_rows_are_in_the_order_of_clips_and_frames():
    clips = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype("f4")
    np.testing.assert_array_equal(fold_frames(clips), clips.reshape(6, 4))
    np.testing.assert_array_equal(unfold_frames(fold_frames(clips), 3), clips)


@pytest.mark.parametrize(
    ("clips", "frames", "message"),
    [
        (4, 6, "mesh.time: 4 devices cannot share 6 frames equally .*; use 1 or 2 or 3 or 6"),
        (3, 8, "3 clips do not split evenly over 2 devices"),
    ],
)
def test_what_a_mesh_cannot_split_is_refused(clips, frames, message):
    with mesh_of(1, 2, 4):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(fold_frames, jax.ShapeDtypeStruct((clips, frames, 2), "float32"))
        with pytest.raises(UserError, match=message):
            rows = jax.ShapeDtypeStruct((clips * frames, 2), "float32")
            jax.eval_shape(lambda rows: unfold_frames(rows, frames), rows)


def test_split_clips_are_left_to_xla_on_gpus(monkeypatch):
    """A kernel needs all frames of a clip on one device."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "1")
    x = jax.numpy.zeros((2, 8, 2, 2, 4))
    assert is_used(x)
    with mesh_of(2, 2, 1):
        assert is_used(x)
    with mesh_of(2, 1, 2):
        assert not is_used(x)


THREE_DEVICES = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding
    from aia_jax.ops import axis_attention, fold_frames, temporal_shift, unfold_frames
    from aia_jax.ops.frames import CLIPS
    from aia_jax.sharding import make_mesh, on_mesh

    rng = np.random.default_rng(0)
    mesh = make_mesh({"data": 1, "fsdp": 1, "time": 3})
    on_clips = NamedSharding(mesh, CLIPS)

    def compare(function, x, *rest, atol=0):
        alone = jax.jit(function)(x, *rest)
        split = jax.jit(on_mesh(mesh, function))(jax.device_put(x, on_clips), *rest)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), split, alone)

    x = rng.normal(size=(2, 6, 3, 4, 7)).astype("f4")
    weights = rng.normal(size=x.shape).astype("f4")
    compare(lambda x: unfold_frames(jnp.sin(fold_frames(x)), 6), x, atol=1e-6)
    for fold_div in (2, 3):
        compare(lambda x: temporal_shift(x, fold_div), x)
        compare(jax.grad(lambda x, w: (temporal_shift(x, fold_div) * w * x).sum()), x, weights)

    # Three devices share the channels of the T unit's planes, or each of them computes all.
    normal = lambda *shape: rng.normal(size=shape).astype("f4")
    parameters = {
        "conv": {"kernel": normal(3, 3, 3, 2)}, "bn": {"scale": normal(1), "bias": normal(1)}
    }
    statistics = {"bn": {"mean": np.zeros(1, "f4"), "var": np.ones(1, "f4")}}

    def loss(x, parameters, weights):
        y, _ = axis_attention(x, {"T": parameters}, {"T": statistics}, host=("T",), train=True)
        return (y * weights).sum()

    for channels in (6, 7):
        arrays = x[..., :channels], parameters, weights[..., :channels]
        compare(jax.grad(loss, (0, 1)), *arrays, atol=2e-5)
"""


def test_devices_that_share_clips_compute_what_one_computes():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(THREE_DEVICES)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
