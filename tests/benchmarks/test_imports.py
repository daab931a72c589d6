"""benchmarks.gpu imports nothing but jax, flax and optax of the packages that we need."""

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.helpers.paths import ROOT


def top_level_imports(text: str) -> Iterator[str]:
    """The modules that a file imports when it is imported; not those that it can do without."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def third_party_packages(module: str) -> set[str]:
    """The packages beyond Python's and the project's own that importing a module imports."""
    packages, known, queue = set(), set(), [module]
    while queue:
        name = queue.pop()
        if name in known:
            continue
        known.add(name)
        top, _, below = name.partition(".")
        if top not in ("aia_jax", "benchmarks", "tests"):
            packages.add(top)
            continue
        if below:  # a package's __init__.py runs before its modules
            queue.append(name.rpartition(".")[0])
        path = ROOT.joinpath(*name.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                queue += top_level_imports(file.read_text("utf-8"))
    return packages - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["gpu", "gpu_jax", "gpu_torch"])
def test_gpu_benchmark_needs_jax_flax_and_optax_only(module):
    assert third_party_packages(f"benchmarks.{module}") <= {"jax", "flax", "optax", "numpy"}


def test_imports_through_packages_are_found():
    assert {"ml_collections", "absl"} & third_party_packages("aia_jax.config")
    assert "simplejpeg" in third_party_packages("benchmarks.loader")
