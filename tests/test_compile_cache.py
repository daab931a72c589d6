"""The folder of compiled programs: off, on, unusable, damaged; and that a run reads the same
numbers with it.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from aia_jax.checkpoints.files import committed_steps
from tests.helpers.paths import ROOT
from tests.helpers.raw_videos import numbered_frames, write_frames
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import make_recipe, rows, run, whole_run

# The one of the config, not that of the test session.
OWN_FOLDER = {"JAX_COMPILATION_CACHE_DIR": ""}
OFF = {"JAX_ENABLE_COMPILATION_CACHE": "false"}

PROGRAM = """
    import sys
    import jax
    from aia_jax.compile_cache import use_compile_cache

    print(use_compile_cache(sys.argv[1]))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    print(float(jax.jit(lambda x: (x * x).sum())(jax.numpy.arange(5.0))))
"""


def compile_something(folder, **environment: str) -> tuple[str, str]:
    """What the function says, and the warnings."""
    env = os.environ | OWN_FOLDER | environment
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said, result = done.stdout.splitlines()
    assert result == "30.0"
    return said, done.stderr


def test_entries_are_written_read_and_passed_over_when_damaged(tmp_path):
    home = {"HOME": str(tmp_path)}
    said, _ = compile_something("~/compiled", **home)
    folder = tmp_path / "compiled"
    assert said == str(folder)
    entries = {path: path.read_bytes() for path in folder.glob("*-cache")}
    assert entries
    compile_something(folder)
    assert {path: path.read_bytes() for path in folder.glob("*-cache")} == entries
    for path, content in entries.items():
        path.write_bytes(content[: len(content) // 2])
    _, warnings = compile_something(folder)
    assert "cache" in warnings


def test_off_and_why(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    assert compile_something("", JAX_COMPILATION_CACHE_DIR=str(elsewhere))[0] == "off"
    assert not elsewhere.exists()
    assert compile_something(tmp_path / "x", **OFF)[0] == "off (JAX_ENABLE_COMPILATION_CACHE)"
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    said = compile_something(tmp_path / "file" / "folder")[0]
    assert said.startswith("off (") and "Not a directory" in said
    assert (
        compile_something(tmp_path / "x", JAX_COMPILATION_CACHE_DIR=str(elsewhere))[0]
        == f"{elsewhere} (JAX_COMPILATION_CACHE_DIR)"
    )


def test_predicting_keeps_its_program_where_the_run_says(tmp_path):
    cache, video = (
        tmp_path / "compiled",
        write_frames(tmp_path / "video", numbered_frames(6, 16, 16)),
    )
    make_run(
        tmp_path / "run", make_recipe(tmp_path), [f"compile_cache={cache}"], ["a", "b", "c"], {}
    )
    command = [sys.executable, ROOT / "predict.py", video, "--workdir", tmp_path / "run", "--json"]
    # This network compiles in less than what JAX keeps.
    env = os.environ | OWN_FOLDER | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    first = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert first.returncode == 0, first.stderr
    entries = set(cache.glob("*-cache"))
    # The network: the only function without a name.
    assert any("lambda" in entry.name for entry in entries)
    second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert set(cache.glob("*-cache")) == entries


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that compiles everything itself; it is told to trace steps that it does not have."""
    return whole_run(
        tmp_path_factory.mktemp("whole"),
        "--config.profile.start=99",
        "--config.profile.stop=99",
        **OFF,
    )


def test_a_run_in_two_parts_with_the_cache_is_the_run_without(whole, tmp_path):
    """The first part fills the cache, the second reads it; a trace of two steps changes nothing
    either.
    """
    recipe, reference, _ = whole
    cache, workdir = tmp_path / "compiled", tmp_path / "run"
    settings = (
        f"--config.compile_cache={cache}",
        "--config.profile.start=2",
        "--config.profile.stop=3",
    )
    first = run("train.py", recipe, workdir, *settings, "--config.train.epochs=1", **OWN_FOLDER)
    # The table may break the line.
    assert first.returncode == 0 and str(cache) in "".join(first.stdout.split()), first.stderr
    filled = set(cache.glob("*-cache"))
    assert filled
    assert "a trace up to step 3 is in" in first.stdout
    (trace,) = (workdir / "profile").glob("plugins/profile/*/*.trace.json.gz")
    assert list(trace.parent.glob("*.xplane.pb")) and trace.stat().st_size > 0

    second = run("train.py", recipe, workdir, *settings, **OWN_FOLDER)
    assert second.returncode == 0 and "going on after step 4" in second.stdout, second.stderr
    assert set(cache.glob("*-cache")) >= filled
    last = committed_steps(reference / "checkpoints")[-1]
    ours, theirs = (
        json.loads((path / "checkpoints" / str(last) / "leaves" / "metadata").read_bytes())
        for path in (workdir, reference)
    )
    assert ours == theirs  # digests of the whole state
    assert rows(workdir) == rows(reference)


def test_a_trace_past_the_end_is_said(whole):
    _, workdir, done = whole
    assert "nothing will be traced: profile.start=99 is past the last step, 12" in done.stdout
    assert not (workdir / "profile").exists()
