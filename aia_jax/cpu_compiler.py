"""Which of XLA's libraries compute convolutions on a CPU."""

import functools

import jax
import jax.numpy as jnp

# Left to itself XLA (jaxlib 0.10 and 0.11) gives convolutions and reductions to YNNPACK. Reductions gain by it, convolutions lose against
# Eigen's: a forward pass of ResNet-50 takes 1.4 times as long on two cores, a training step 1.8 times. See benchmarks/README.md.
_CONVOLUTIONS_BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@functools.cache
def compiler_options() -> dict[str, str]:
    """`compiler_options` for the `jax.jit` of a step: nothing but on CPUs, and nothing where this jaxlib does not know the option."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=_CONVOLUTIONS_BY_EIGEN).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _CONVOLUTIONS_BY_EIGEN
