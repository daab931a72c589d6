"""Shapes are checked: jaxtyping rewrites aia_jax's functions as they are imported, beartype reads their annotations."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # must stand before the first import of jax
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # commands under test leave the user's home alone
sys.path.insert(0, str(Path(__file__).parent))  # tests share tiny_data.py and golden/recipe.py
sys.path.insert(0, str(Path(__file__).parent / "golden"))
sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # and the PyTorch networks with the benchmarks

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("aia_jax", "beartype.beartype")


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_go_with_their_module():
    """What one module compiled is of no use to the next, and a process that keeps gigabytes of it is slow at everything."""
    yield
    jax.clear_caches()
