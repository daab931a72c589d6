"""The rooms of the package: no file imports a room above its own, none import in a circle."""

import ast
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# The lowest first. A name is a folder or a file of aia_jax; those of one line stand side by side.
ROOMS = (
    ("errors", "shapes", "html", "compile_cache", "frame_geometry", "published_costs"),
    ("processes",),
    ("file_tree", "files", "hosts", "json_file", "lock", "sharding"),
    ("ops",),
    ("models",),
    ("config_fields",),
    ("config_check", "config_file"),
    ("config",),
    ("complexity", "memory"),
    ("video",),
    ("shards",),
    ("data",),
    ("prepare",),
    ("checkpoints",),
    ("weights",),
    ("training", "prediction"),
    ("evaluation",),
    ("export", "demo"),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def modules() -> dict[str, Path]:
    """Module name → file; not of aia_jax itself, which imports its rooms when they are used."""
    files = sorted((ROOT / "aia_jax").rglob("*.py"))
    names = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }
    del names["aia_jax"]
    return names


def imports(file: Path, known: dict[str, Path]) -> set[str]:
    """The modules of aia_jax that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write the whole name instead of a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in known}


def room(module: str) -> str:
    return module.split(".")[1]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there are none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for imported in sorted(graph.get(module, ())):
            if found := visit(imported):
                return found
        path.pop()
        done.add(module)
        return []

    for module in sorted(graph):
        if found := visit(module):
            return found
    return []


def graph() -> dict[str, set[str]]:
    known = modules()
    # A package's `__init__` is known by the package's name, which its files do not depend on.
    return {
        name: {other for other in imports(file, known) if not name.startswith(f"{other}.")}
        for name, file in known.items()
    }


def test_every_file_has_a_room():
    assert {room(module) for module in modules()} == set(LEVEL)


def test_no_file_imports_upwards():
    upwards = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if LEVEL[room(other)] > LEVEL[room(module)]
    ]
    assert not upwards, "\n".join(sorted(upwards))


def test_rooms_side_by_side_do_not_know_each_other():
    sideways = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if LEVEL[room(other)] == LEVEL[room(module)] and room(other) != room(module)
    ]
    assert not sideways, "\n".join(sorted(sideways))


def test_no_files_import_in_a_circle():
    assert not circle(graph())


@pytest.mark.parametrize("edges", [{"a": {"b"}, "b": {"c"}, "c": {"b"}}, {"a": {"a"}}])
def test_a_circle_is_found(edges):
    assert circle(edges)


def test_nothing_in_the_package_imports_commands_recipes_or_tests():
    outside = {"train", "eval", "predict", "prepare_data", "convert_torch_weights", "tests"}
    outside |= {"benchmarks", "configs"}
    for file in modules().values():
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert not {name.split(".")[0] for name in names} & outside, file
