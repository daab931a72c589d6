"""Shapes are checked: jaxtyping rewrites aia_jax's functions as they are imported, beartype reads their annotations."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # must stand before the first import of jax
sys.path.insert(0, str(Path(__file__).parent))  # tests share tiny_data.py, torch_nets.py and golden/recipe.py
sys.path.insert(0, str(Path(__file__).parent / "golden"))

from jaxtyping import install_import_hook

install_import_hook("aia_jax", "beartype.beartype")
