"""The stencil, in all forms that some backend uses, against XLA's own 3-D convolution: values and
gradients.
"""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.ops import stencil
from aia_jax.ops.stencil.convolution import ROWS, banded
from aia_jax.ops.stencil.stencil import gradient_by_taps


def convolved(maximum, mean, kernel):
    pair = jnp.stack([maximum, mean], -1)
    return jax.lax.conv_general_dilated(
        pair,
        kernel[..., None],
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision="highest",
    )[..., 0]


@settings(max_examples=12, deadline=None)
@given(shape=st.tuples(st.integers(1, 2), st.integers(1, 18), st.integers(1, 5), st.integers(1, 5)))
def test_stencil_equals_a_convolution(shape):
    rng = np.random.default_rng(0)
    maximum, mean = rng.normal(size=(2, *shape)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    expected = convolved(maximum, mean, kernel)
    np.testing.assert_allclose(jax.jit(stencil)(maximum, mean, kernel), expected, atol=2e-5)
    if shape[1] <= ROWS:
        np.testing.assert_allclose(
            jax.jit(banded)((maximum, mean), kernel[..., None])[0], expected, atol=2e-5
        )


@pytest.mark.parametrize("length", [3, 7, 8, 19])
def test_stencil_gradients_equal_the_convolution_s(length):
    rng = np.random.default_rng(1)
    maximum, mean, weights = rng.normal(size=(3, 2, length, 4, 5)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")

    def value_and_gradient(function):
        value, gradient = jax.vjp(function, maximum, mean, kernel)
        return value, gradient(jnp.asarray(weights))

    expected, theirs = value_and_gradient(convolved)
    value, here = jax.jit(lambda: value_and_gradient(stencil))()
    np.testing.assert_allclose(
        value, expected, atol=2e-5
    )  # the form of a forward pass with a gradient to come
    elsewhere = jax.jit(gradient_by_taps)(
        weights, maximum, mean, kernel
    )  # of backends other than CPUs
    for ours in (here, elsewhere):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=6e-5)


@pytest.mark.parametrize(("rows", "convolutions", "taps"), [(ROWS, 3, 0), (ROWS + 1, 1, 54 + 54)])
def test_a_cpu_s_training_step_has_no_taps_for_small_planes(rows, convolutions, taps):
    """They would be half of what a step takes to compile; large planes are faster with them. Of the
    kernel's gradient there are none.
    """
    operands = *jnp.ones((2, 2, rows, 4, 5)), jnp.ones((3, 3, 3, 2))
    text = (
        jax.jit(jax.grad(lambda *a: (stencil(*a) ** 2).sum(), (0, 1, 2))).lower(*operands).as_text()
    )
    assert text.count("stablehlo.convolution") == convolutions
    assert taps <= text.count("stablehlo.multiply") < taps + 10


def test_on_other_backends_no_clip_leaves_its_device():
    """The kernel's gradient sums over clips: on a mesh each device sums its own, and one sum over
    devices follows.
    """
    program = """
        import re, jax, numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from aia_jax.ops.stencil.stencil import gradient_by_taps
        rng = np.random.default_rng(0)
        gradient, maximum, mean = rng.normal(size=(3, 4, 3, 5, 6)).astype("f4")
        kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
        step = jax.jit(gradient_by_taps, in_shardings=(rows, rows, rows, whole), out_shardings=(rows, rows, whole))
        compiled = step.lower(gradient, maximum, mean, kernel).compile()
        print(re.findall(r"(all-gather|all-to-all|collective-permute|all-reduce)(?:-start)?\\(", compiled.as_text()))
        placed = [jax.device_put(v, rows) for v in (gradient, maximum, mean)]
        for a, b in zip(compiled(*placed, jax.device_put(kernel, whole)), jax.jit(gradient_by_taps)(gradient, maximum, mean, kernel)):
            np.testing.assert_allclose(a, b, atol=2e-5)
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['all-reduce']"), done.stderr[-3000:]
