"""The page that `python -m aia_jax.evaluation report` writes: tests of models, to look at."""
