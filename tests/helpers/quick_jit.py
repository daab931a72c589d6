"""`jax.jit` for tests that need a program's results and not its speed."""

import functools

import jax

# LLVM's optimisations take half of the time in which XLA compiles a small network for CPUs.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
