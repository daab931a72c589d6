"""The paper's point on a CPU: `python -m aia_jax.demo`."""
