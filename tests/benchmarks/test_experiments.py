"""docs/experiments.md: headings of one form, and code that refers to headings which exist."""

import re

from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "experiments.md"
CODE = ("aia_jax", "benchmarks", "configs")


def test_experiments_that_the_code_names_are_headings():
    headings = re.findall(r"^### (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    named = []
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            text = re.sub(r"\s*\n\s*#?\s*", " ", path.read_text("utf-8"))  # joins comment lines
            named += [(path.name, name) for name in re.findall(r'experiments\.md, "(.*?)"', text)]
    assert named
    assert not [pair for pair in named if not any(head.startswith(pair[1]) for head in headings)]


def test_every_experiment_has_a_verdict_a_date_and_a_commit():
    headings = re.findall(r"^### (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    dates, commits = r"\d{4}-\d\d-\d\d(, \d{4}-\d\d-\d\d)*", r"[0-9a-f]{7}(, [0-9a-f]{7})*"
    form = re.compile(rf"[^;]+: [^;]+; [^;]+; {dates}; {commits}")
    assert headings and not [heading for heading in headings if not form.fullmatch(heading)]
    assert len(set(headings)) == len(headings)
