"""Shapes are checked: jaxtyping rewrites aia_jax's functions, beartype reads their annotations.

Commands under test keep what they compile, as a user's do, but in a folder of this session: most of
them compile the same small networks. XLA optimises their programs little, because compiling them
takes longer than running them.
"""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # must stand before the first import of jax
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit the folder
    os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="aia_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("aia_jax", "beartype.beartype")
# In this process tests look at what is compiled, and run more of it.
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_disable_most_optimizations", False)

# The longest files start first, so that at the end no process works on one of them alone.
LONGEST_FILES = ("test_golden_training.py", "test_train.py", "test_compile_cache.py")


def pytest_collection_modifyitems(items):
    order = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_go_with_their_module():
    """Drops compiled programs: the next module needs none of them, and gigabytes slow a process."""
    yield
    jax.clear_caches()
