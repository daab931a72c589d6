"""Patterns and walks end where links to folders form loops, and find each folder once."""

import glob

import pytest

from aia_jax.file_tree import expand_pattern


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("a/b/1.mp4", "c/2.mp4", "3.mp4", ".hidden/4.mp4", "a/x[1]/5.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


PATTERNS = ("**/*.mp4", "**", "a/**", "*/**/*.mp4", "**/b/*", "./**/*.mp4", "*.mp4")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_without_links_a_pattern_is_what_glob_makes_of_it(tree, pattern):
    for one in (pattern, f"{tree}/{pattern}"):
        expected = {name.rstrip("/") for name in glob.glob(one, recursive=True)}  # noqa: PTH207
        assert {name.rstrip("/") for name in expand_pattern(one)} == expected - {""}


def test_two_loops_end(tree):
    """`glob.glob` follows two links to the folder above in 2 ** 40 orders."""
    for link, target in (("l1", "."), ("l2", "."), ("a/up", ".."), ("a/self", "self")):
        (tree / link).symlink_to(target)
    (tree / "z").symlink_to("c")
    found = expand_pattern("**/*.mp4")
    assert found == ["3.mp4", "a/b/1.mp4", "a/x[1]/5.mp4", "c/2.mp4"], "each folder once"


def test_a_link_out_of_the_tree_is_followed(tree):
    (tree / "a" / "out").symlink_to(tree / "c")
    assert expand_pattern("a/**/*.mp4") == ["a/b/1.mp4", "a/out/2.mp4", "a/x[1]/5.mp4"]
