"""Checkpoints: what is restored is what was saved, bit for bit, or a clear error."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax.checkpoints import digest
from aia_jax.checkpoints.files import (
    CheckpointError,
    best_step,
    committed_steps,
    load_weights,
    read_meta,
)
from aia_jax.checkpoints.manager import Checkpoints
from tests.helpers.tiny_state import META, assert_same, make_state


def save_steps(directory, *steps, **options):
    with Checkpoints(directory, keep_latest=9) as checkpoints:
        for step in steps:
            assert checkpoints.save(step, make_state(step, **options), META | {"position": step})
            checkpoints.wait()


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_what_is_restored_is_what_was_saved(tmp_path):
    state = make_state(3, ema=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(state) is None
        assert checkpoints.best_step() is None
        assert checkpoints.save(3, state, META)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [3]
        restored, meta = checkpoints.restore_latest(jax.eval_shape(lambda: state))
        # A step is never written over.
        assert not checkpoints.save(3, make_state(4, ema=True), META)
    assert meta == META
    assert_same(restored, state)


def test_a_save_holds_the_state_of_its_time_though_the_next_step_reuses_the_memory(tmp_path):
    advance = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = advance({"w": jnp.zeros((512, 512)), "v": jnp.zeros(100)})
    expected = jax.tree.map(lambda x: np.array(x), state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(20):
            state = advance(state)
        restored, _ = checkpoints.restore(1, jax.eval_shape(lambda: state))
    assert_same(restored, expected)


def test_latest_and_best_are_kept(tmp_path):
    scores = {1: 0.1, 2: 0.6, 3: 0.6, 4: None, 5: 0.2, 6: 0.3}
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make_state(step), {"metrics": {"top1": score}})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.best_step() == 2
    # The scores of an earlier process count too.
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        checkpoints.save(7, make_state(7), {})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 6, 7]
        assert best_step(tmp_path) == checkpoints.best_step() == 2


def test_weights_load_without_the_optimiser(tmp_path):
    state = make_state(1, ema=True)
    state = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, META)
        checkpoints.save(2, make_state(2, ema=True), {"metrics": {"top1": 0.1}})
    assert_same(load_weights(tmp_path, "best"), jax.tree.map(np.asarray, state.ema))
    assert_same(
        load_weights(tmp_path, 1, ema=False),
        {"params": state.params, "batch_stats": state.batch_stats},
    )
    latest = load_weights(str(tmp_path))
    assert_same(latest, make_state(2, ema=True).ema)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(latest))
    assert read_meta(tmp_path, 1) == META


def test_a_flipped_byte_in_any_file_is_harmless_or_an_error_that_names_it(tmp_path):
    save_steps(tmp_path, 1, 2, ema=True)
    state, checked, raised = make_state(2, ema=True), 0, set()
    with Checkpoints(tmp_path) as checkpoints:
        for path in sorted(path for path in (tmp_path / "2").rglob("*") if path.is_file()):
            size = path.stat().st_size
            for position in {0, size // 3, size // 2, size - 1} if size else ():
                flip(path, position, bit=position % 8)
                checked += 1
                try:
                    restored, meta = checkpoints.restore_latest(state)
                    assert_same(restored, state)
                    assert meta == META | {"position": 2}
                except CheckpointError as error:
                    assert re.search(
                        r"step 2 is damaged: file .*/2/.*; step 1 is whole: .*--resume_from=1$",
                        str(error),
                    )
                    assert path.name == digest.SUMS or f"/{path.relative_to(tmp_path)} " in str(
                        error
                    )
                    raised.add(path.name)
                flip(path, position, bit=position % 8)
        assert_same(checkpoints.restore_latest(state)[0], state)
    assert checked > 30
    assert {digest.SUMS, "metadata", "manifest.ocdbt", "_METADATA"} <= raised


# Orbax gives up some reads half-way.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_byte_flipped_before_the_files_were_sealed_is_found_by_the_leaf(tmp_path):
    """The files' digests are made anew after each flip, so only the leaves' digests can show it."""
    save_steps(tmp_path, 1)
    state, folder, messages = make_state(1), tmp_path / "1", []
    with Checkpoints(tmp_path) as checkpoints:
        for path in sorted(path for path in (folder / "state").rglob("*") if path.is_file()):
            size = path.stat().st_size
            for position in range(size // 10, size, max(1, size // 5)):
                flip(path, position)
                digest.seal(folder)
                try:
                    assert_same(checkpoints.restore(1, state)[0], state)
                except CheckpointError as error:
                    messages.append(str(error))
                flip(path, position)
    assert messages
    assert all("leaf " in message or "cannot be read" in message for message in messages)


def test_other_numbers_in_a_readable_file_are_found_by_the_leaf(tmp_path):
    save_steps(tmp_path, 1)
    with Checkpoints(tmp_path / "other") as checkpoints:
        checkpoints.save(1, make_state(1).replace(params=make_state(2).params), META)
    (tmp_path / "1" / "state").rename(tmp_path / "1" / "was")
    (tmp_path / "other" / "1" / "state").rename(tmp_path / "1" / "state")
    digest.seal(tmp_path / "1")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="leaf params/head/bias does not hold the numbers"),
    ):
        checkpoints.restore(1, make_state(1))
    with pytest.raises(CheckpointError, match="leaf params/head/bias does not hold the numbers"):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / digest.SUMS).unlink(),
            "SHA256SUMS cannot be read .* not written to its end",
        ),
        (
            lambda folder: (folder / "meta" / "metadata").unlink(),
            "file .*/3/meta/metadata is missing",
        ),
        (
            lambda folder: (folder / "state" / "d" / "more").write_text("x"),
            "file .*/3/state/d/more is not listed",
        ),
    ],
)
def test_missing_and_foreign_files_are_named_with_the_newest_whole_step(tmp_path, damage, message):
    save_steps(tmp_path, 1, 2, 3)
    damage(tmp_path / "3")
    flip(tmp_path / "2" / "meta" / "metadata", 5)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=message + ".*; step 1 is whole"),
    ):
        checkpoints.restore_latest(make_state(3))
    with pytest.raises(CheckpointError, match=message + ".*; step 1 is whole"):
        load_weights(tmp_path)
    flip(tmp_path / "1" / "meta" / "metadata", 5)
    with pytest.raises(
        CheckpointError, match="no other step is whole: restore the folder from a backup"
    ):
        load_weights(tmp_path)


def test_going_on_from_an_earlier_step_sets_later_ones_aside(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert checkpoints.rewind(1) == [2, 3]
        assert checkpoints.steps() == [1]
        again = make_state(9)
        assert checkpoints.save(2, again, META)
        assert_same(checkpoints.restore(2, again)[0], again)
        assert checkpoints.rewind(1) == [2]
        with pytest.raises(CheckpointError, match="no checkpoint of step 3"):
            checkpoints.rewind(3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "1",
        "2.set-aside",
        "3.set-aside",
        "2.set-aside-again",
    }


def test_a_checkpoint_of_another_model_names_what_differs(tmp_path):
    save_steps(tmp_path, 1)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError) as wider:
            checkpoints.restore(1, make_state(1, width=5))
        with pytest.raises(CheckpointError) as averaged:
            checkpoints.restore(1, make_state(1, ema=True))
    assert "params/head/bias is float32[4] there, float32[5] here" in str(wider.value)
    assert "; 1 more differ." in str(wider.value)  # two parameters and their momenta
    assert "ema/batch_stats/bn/mean is missing there, float32[3] here" in str(averaged.value)
    assert "Use the config that the run was started with" in str(averaged.value)


def test_a_state_without_a_methods_own_restores_where_the_method_has_none(tmp_path):
    """A checkpoint from before `TrainState` had the field `method_state`."""
    state = make_state(1)
    fields = ("step", "params", "batch_stats", "opt_state")
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {name: getattr(state, name) for name in fields}, META)
        assert state.method_state == {}
        assert_same(checkpoints.restore(1, state)[0], state)
        needed = state.replace(method_state={"teacher": jnp.zeros(2)})
        with pytest.raises(CheckpointError, match="method_state/teacher is missing there"):
            checkpoints.restore(1, needed)


def test_wrong_requests_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="train first"):
        load_weights(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="choose another --workdir"):
        Checkpoints(tmp_path / "file" / "run")
    with Checkpoints(tmp_path / "run") as checkpoints:
        with pytest.raises(TypeError):
            checkpoints.save(1, make_state(1), {"array": np.zeros(1)})
        checkpoints.save(1, make_state(1), {})
        with pytest.raises(CheckpointError, match=r"no checkpoint of step 2 in .*; there are: 1"):
            checkpoints.restore(2, make_state(1))
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* has a validation to be"):
        load_weights(tmp_path / "run", "best")


def test_checkpoint_folders_are_found_by_their_names(tmp_path):
    for name in ("10", "9", "9.set-aside", "11.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    assert committed_steps(tmp_path) == [9, 10]
    assert committed_steps(Path(tmp_path) / "absent") == []
