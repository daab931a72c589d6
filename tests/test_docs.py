"""The tests that docs/reliability.md names exist."""

import ast
import re

from tests.helpers.paths import ROOT


def test_every_kind_of_fault_has_its_test():
    page = (ROOT / "docs/reliability.md").read_text()
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page)
    assert len(named) > 60
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not name or name in functions, f"{path} has no {name}"
