"""The stencil in XLA's forms against XLA's own 3-D convolution: values and gradients."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.ops import stencil
from aia_jax.ops.stencil.convolution import MAX_ROWS, correlate_by_convolution
from aia_jax.ops.stencil.taps import stencil_by_taps, stencil_gradient_by_taps
from tests.helpers.quick_jit import quick_jit


def convolve(maximum, mean, kernel):
    pair = jnp.stack([maximum, mean], -1)
    return jax.lax.conv_general_dilated(
        pair,
        kernel[..., None],
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision="highest",
    )[..., 0]


def by_convolution(maximum, mean, kernel):
    return correlate_by_convolution((maximum, mean), kernel[..., None])[0]


# Sides of one, sides shorter than a tap's reach, more rows than the convolution's form takes.
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 2, 5), (1, 8, 4, 1), (2, 11, 5, 3)])
@pytest.mark.parametrize("form", [stencil, stencil_by_taps, by_convolution])
def test_every_form_equals_a_convolution(shape, form):
    rng = np.random.default_rng(0)
    maximum, mean = rng.normal(size=(2, *shape)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
    ours = quick_jit(form)(maximum, mean, kernel)
    np.testing.assert_allclose(ours, convolve(maximum, mean, kernel), atol=2e-5)


# Rows that fill a group and rows that do not, in one group and in several.
@pytest.mark.parametrize("rows", [3, 8, 19])
def test_gradients_equal_the_convolution_s(rows):
    rng = np.random.default_rng(1)
    maximum, mean, weights = rng.normal(size=(3, 2, rows, 4, 5)).astype("f4")
    kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")

    def value_and_gradients(function):
        value, gradient = jax.vjp(function, maximum, mean, kernel)
        return value, gradient(jnp.asarray(weights))

    expected, theirs = quick_jit(lambda: value_and_gradients(convolve))()
    value, on_cpus = quick_jit(lambda: value_and_gradients(stencil))()
    np.testing.assert_allclose(value, expected, atol=2e-5)  # the form of training
    by_taps = quick_jit(stencil_gradient_by_taps)(weights, maximum, mean, kernel)
    for ours in (on_cpus, by_taps):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=6e-5)


@pytest.mark.parametrize(
    ("rows", "convolutions", "taps"), [(MAX_ROWS, 3, 0), (MAX_ROWS + 1, 1, 54 + 54)]
)
def test_training_on_cpus_has_no_taps_for_planes_of_few_rows(rows, convolutions, taps):
    """They would be half of what a step takes to compile; planes of many rows are faster with them.

    The kernel's gradient has none for any plane.
    """
    operands = *jnp.ones((2, 2, rows, 4, 5)), jnp.ones((3, 3, 3, 2))
    text = (
        jax.jit(jax.grad(lambda *a: (stencil(*a) ** 2).sum(), (0, 1, 2))).lower(*operands).as_text()
    )
    assert text.count("stablehlo.convolution") == convolutions
    assert taps <= text.count("stablehlo.multiply") < taps + 10


def test_the_gradient_by_taps_exchanges_nothing_between_devices_but_one_sum():
    """The kernel's gradient sums over clips: on a mesh each device sums its own, and one sum over
    devices follows.
    """
    program = """
        import re, jax, numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from aia_jax.ops.stencil.taps import stencil_gradient_by_taps as gradient
        rng = np.random.default_rng(0)
        dy, maximum, mean = rng.normal(size=(3, 4, 3, 5, 6)).astype("f4")
        kernel = rng.normal(size=(3, 3, 3, 2)).astype("f4")
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
        step = jax.jit(
            gradient, in_shardings=(rows, rows, rows, whole), out_shardings=(rows, rows, whole)
        )
        compiled = step.lower(dy, maximum, mean, kernel).compile()
        exchanges = r"(all-gather|all-to-all|collective-permute|all-reduce)(?:-start)?\\("
        print(re.findall(exchanges, compiled.as_text()))
        placed = [jax.device_put(v, rows) for v in (dy, maximum, mean)]
        placed.append(jax.device_put(kernel, whole))
        for a, b in zip(compiled(*placed), jax.jit(gradient)(dy, maximum, mean, kernel)):
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
