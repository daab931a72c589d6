"""JAX's persistent compilation cache: a program compiled before is read from a folder."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp


def use_compile_cache(folder: str) -> str:
    """Switches the cache on.

    Call it before anything large is compiled: a program that was compiled earlier is not stored.

    An entry's key is the whole program, the versions and flags of the compiler and the devices; a
    damaged entry is passed over with a warning. So results do not depend on the folder, several
    runs may share it, and it may be deleted at any time; JAX never shrinks it.
    JAX_COMPILATION_CACHE_DIR in the environment takes the folder's place,
    JAX_ENABLE_COMPILATION_CACHE=false switches the cache off.

    Args:
        folder: the config's `compile_cache`: made if it is not there, "~" is the user's home, ""
            switches the cache off.

    Returns:
        A text for people: the folder, or that the cache is off and why. A folder that cannot be
        written is no error.
    """
    if not folder:
        jax.config.update("jax_enable_compilation_cache", False)
        return "off"
    if not jax.config.jax_enable_compilation_cache:
        return "off (JAX_ENABLE_COMPILATION_CACHE)"
    if jax.config.jax_compilation_cache_dir:
        return f"{jax.config.jax_compilation_cache_dir} (JAX_COMPILATION_CACHE_DIR)"
    try:
        path = Path(folder).expanduser()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        return f"off ({error})"
    if not os.access(path, os.W_OK):
        return f"off ({path} cannot be written)"
    jax.config.update("jax_compilation_cache_dir", str(path))
    return str(path)


# Left to itself XLA (jaxlib 0.10 and 0.11) gives convolutions and reductions to YNNPACK. Reductions
# gain by it, convolutions lose against Eigen's: a forward pass of ResNet-50 takes 1.4 times as long
# on two cores, a training step 1.8 times (docs/experiments.md, "Convolutions: by Eigen").
_CONVOLUTIONS_BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@functools.cache
def compiler_options() -> dict[str, str]:
    """The `compiler_options` for the `jax.jit` of a step.

    They are empty on all backends but CPUs, and where this jaxlib does not know the option.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=_CONVOLUTIONS_BY_EIGEN).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return _CONVOLUTIONS_BY_EIGEN
