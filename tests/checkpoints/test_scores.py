"""How good each checkpoint is: written after its state, and never guessed if it is unreadable."""

import json

import pytest

from aia_jax.checkpoints import digest
from aia_jax.checkpoints.files import (
    CheckpointError,
    best_step,
    committed_steps,
    load_weights,
    read_meta,
)
from aia_jax.checkpoints.manager import Checkpoints, SaveFailed
from aia_jax.checkpoints.trained_run import choose_step
from aia_jax.errors import UserError
from tests.helpers.tiny_state import META, assert_same, make_state


def save_steps(directory, scores):
    with Checkpoints(directory, keep_latest=9) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make_state(step), META | {"metrics": {"top1": score}})


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_metrics_are_added_to_a_saved_step_and_its_state_stays(tmp_path):
    meta = META | {"metrics": None}
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        for step, score in {1: 0.5, 2: 0.4, 3: 0.3, 4: 0.6}.items():
            checkpoints.save(step, make_state(step), meta)
            assert checkpoints.best_step() == (1 if step > 1 else None)
            checkpoints.add_metrics(step, {"top1": score})
            assert read_meta(tmp_path, step) == META | {"metrics": {"top1": score}}
            assert_same(checkpoints.restore(step, make_state(0))[0], make_state(step))
            # The latest two and the best one stay, also at the end of a run.
            assert checkpoints.steps() == {1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [3, 4]}[step]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.best_step() == best_step(tmp_path) == 4


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_kill_while_metrics_are_added_leaves_a_whole_step(tmp_path, monkeypatch, killed_at):
    """One of the three renames is the last thing that happens."""
    save_steps(tmp_path, {1: None})
    atomic, calls = digest.atomic_file, []

    def dying(path, mode="wb"):
        calls.append(path)
        if len(calls) == killed_at:
            path.with_name(f"{path.name}.tmp").write_bytes(b"half of")
            raise KeyboardInterrupt
        return atomic(path, mode)

    monkeypatch.setattr(digest, "atomic_file", dying)
    with pytest.raises(KeyboardInterrupt):
        digest.replace_file(tmp_path / "1", digest.META, json.dumps({"metrics": "new"}).encode())
    monkeypatch.undo()
    digest.check_files(tmp_path / "1")
    assert_same(load_weights(tmp_path, 1)["params"], make_state(1).params)
    expected = META | {"metrics": {"top1": None}} if killed_at < 3 else {"metrics": "new"}
    assert read_meta(tmp_path, 1) == expected
    digest.replace_file(tmp_path / "1", digest.META, b"{}")  # again, to its end
    digest.check_files(tmp_path / "1")
    assert (tmp_path / "1" / digest.SUMS).read_text().count(digest.META) == 1


def test_metrics_that_cannot_be_written_leave_the_step(tmp_path, monkeypatch):
    save_steps(tmp_path, {1: None})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digest, "atomic_file", full)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(SaveFailed, match=r"step 1 .*No space left on device.*step is whole"):
            checkpoints.add_metrics(1, {"top1": 0.5})
        assert checkpoints.best_step() is None
    digest.check_files(tmp_path / "1")


def test_damaged_metadata_get_no_new_digest(tmp_path):
    save_steps(tmp_path, {1: None, 2: None})
    with Checkpoints(tmp_path) as checkpoints:
        damage(tmp_path / "2" / digest.META)
        with pytest.raises(CheckpointError, match="step 2 is damaged"):
            checkpoints.add_metrics(2, {"top1": 0.5})


def test_a_step_whose_score_cannot_be_read_is_no_best_one_and_stays(tmp_path):
    save_steps(tmp_path, {1: 0.9, 2: 0.5, 3: 0.6})
    damage(tmp_path / "1" / digest.META)
    for ask in (best_step, lambda folder: choose_step(folder, "best"), load_best):
        with pytest.raises(UserError) as raised:
            ask(tmp_path)
        for words in (f"{tmp_path}/1/meta/metadata", "steps 2 and 3 are whole", "--step"):
            assert words in str(raised.value)
    assert choose_step(tmp_path, "latest") == choose_step(tmp_path, "3") == 3
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert list(checkpoints.unreadable) == [1] and checkpoints.best_step() == 3
        checkpoints.save(4, make_state(4), META | {"metrics": None})
        checkpoints.add_metrics(4, {"top1": 0.7})
        checkpoints.save(5, make_state(5), META | {"metrics": {"top1": 0.8}})
        checkpoints.wait()
        assert committed_steps(tmp_path) == [1, 4, 5]
        assert checkpoints.rewind(4) == [5]


def load_best(folder):
    return load_weights(folder, "best")


def test_going_back_to_a_damaged_step_sets_nothing_aside(tmp_path):
    save_steps(tmp_path, {1: 0.9, 2: 0.5, 3: 0.6})
    damage(tmp_path / "2" / "leaves" / "metadata")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match=r"steps 1 and 3 are whole: .*--resume_from=1$"):
            checkpoints.rewind(2)
        assert checkpoints.steps() == [1, 2, 3]
