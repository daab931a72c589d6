"""A trained network as one file that runs without this project: `python -m aia_jax.export`."""
