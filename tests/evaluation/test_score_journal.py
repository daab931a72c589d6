"""A killed test goes on from the videos that it has; each video counts exactly once."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aia_jax.errors import UserError
from aia_jax.evaluation import score_journal
from aia_jax.evaluation.score_journal import ScoreJournal
from aia_jax.evaluation.scores import ScoresError
from tests.helpers.tiny_scores import make_evaluation

IDENTITY = "0123456789abcdef" * 4
LOGITS = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
VIEWS = np.random.default_rng(1).normal(size=(23, 2, 3)).astype(np.float32)


def open_journal(folder, identity=IDENTITY, videos=23, views=0) -> ScoreJournal:
    return ScoreJournal(folder / "validation_8x1x2_9.npz", identity, videos, 3, views)


def add(journal: ScoreJournal, records) -> None:
    """Adds a batch whose last rows are padding."""
    records = np.array([*records, -1, -1])
    views = VIEWS[records] if journal.view_logits is not None else None
    journal.add(records, LOGITS[records], views)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), views=st.sampled_from([0, 2]))
def test_any_order_batches_and_kills_give_the_same_scores(tmp_path_factory, seed, views):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("journal")
    journal = open_journal(folder, views=views)
    while len(journal.remaining()):
        left = rng.permutation(journal.remaining())
        size = rng.integers(1, 9)
        for start in range(0, size * rng.integers(1, 5), size):
            add(journal, left[start : start + size])
        if rng.random() < 0.7:
            journal.flush()
        if rng.random() < 0.7:  # a kill, which loses what was not written
            journal = open_journal(folder, views=views)
    journal.flush()
    for one in (journal, open_journal(folder, views=views)):
        assert one.done.all()
        np.testing.assert_array_equal(one.logits, LOGITS)
        if views:
            np.testing.assert_array_equal(one.view_logits, VIEWS)


def test_files_are_written_while_the_test_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(score_journal, "_MAX_VIDEOS", 5)
    journal = open_journal(tmp_path)
    add(journal, range(4))
    assert not open_journal(tmp_path).done.any()
    add(journal, range(4, 7))
    assert open_journal(tmp_path).done.sum() == 7
    monkeypatch.setattr(score_journal, "_MAX_SECONDS", 0.0)
    add(journal, [9])
    assert open_journal(tmp_path).done.sum() == 8


def test_a_stop_saves_what_there_is(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_journal(tmp_path) as journal:
        add(journal, [3, 1])
        raise KeyboardInterrupt
    assert open_journal(tmp_path).remaining().tolist() == [0, 2, *range(4, 23)]


def test_a_video_cannot_be_added_twice(tmp_path):
    journal = open_journal(tmp_path)
    add(journal, [0, 1])
    for records in ([1], [5, 5]):
        with pytest.raises(ValueError, match="has scores of some"):
            add(journal, records)


def test_scores_that_are_not_finite_are_refused(tmp_path):
    logits = LOGITS[:2].copy()
    logits[1, 1] = np.nan
    with pytest.raises(ScoresError, match="number 7 has NaN"):
        open_journal(tmp_path).add(np.array([4, 7]), logits)


def test_another_test_does_not_continue_this_one(tmp_path):
    with open_journal(tmp_path) as journal:
        add(journal, range(10))
    assert not open_journal(tmp_path, identity="f" * 64).done.any()
    assert not open_journal(tmp_path, views=2).done.any()
    assert open_journal(tmp_path).done.sum() == 10


def test_a_journal_that_is_not_what_its_name_says_is_refused(tmp_path):
    open_journal(tmp_path)
    with pytest.raises(UserError, match=r"another test: about\.json says .*'videos': 23.* 24"):
        open_journal(tmp_path, videos=24)
    (about,) = tmp_path.glob("*.partial/about.json")
    about.write_text("{")
    with pytest.raises(UserError, match=r"about\.json is damaged .* delete"):
        open_journal(tmp_path)


def test_a_damaged_file_is_set_aside_and_its_videos_come_again(tmp_path):
    for start in (0, 5):
        with open_journal(tmp_path) as journal:
            add(journal, range(start, start + 5))
    (folder,) = tmp_path.glob("*.partial")
    (folder / "000000.npz").write_bytes((folder / "000000.npz").read_bytes()[:200])
    journal = open_journal(tmp_path)
    assert journal.done.nonzero()[0].tolist() == [5, 6, 7, 8, 9]
    assert len(journal.notes) == 1 and "000000.npz" in journal.notes[0]
    assert (folder / "000000.npz.damaged").exists()
    add(journal, journal.remaining())
    journal.flush()
    again = open_journal(tmp_path)
    assert again.done.all() and not again.notes
    np.testing.assert_array_equal(again.logits, LOGITS)


@pytest.mark.parametrize(
    ("records", "logits"),
    [
        (np.array([0, 23]), LOGITS[:2]),
        (np.array([0, -1]), LOGITS[:2]),
        (np.array([0, 0]), LOGITS[:2]),
        (np.array([0.0, 1.0]), LOGITS[:2]),
        (np.array(0), LOGITS[:1]),
        (np.array([0, 1]), LOGITS[:3]),
        (np.array([0, 1]), LOGITS[:2].astype(np.float64)),
        (np.array([0, 1]), np.full((2, 3), np.inf, np.float32)),
    ],
)
def test_a_file_with_impossible_content_is_set_aside(tmp_path, records, logits):
    (folder,) = [open_journal(tmp_path).folder]
    np.savez(folder / "000000.npz", records=records, logits=logits)
    journal = open_journal(tmp_path)
    assert not journal.done.any()
    assert len(journal.notes) == 1 and "evaluated again" in journal.notes[0]


def test_videos_in_two_files_count_once_and_are_said(tmp_path):
    with open_journal(tmp_path) as journal:
        add(journal, range(4))
    records = np.array([3, 4])
    np.savez(journal.folder / "000001.npz", records=records, logits=LOGITS[records] + 1)
    again = open_journal(tmp_path)
    np.testing.assert_array_equal(again.logits[:4], LOGITS[:4])
    assert again.done.sum() == 5 and "1 videos" in again.notes[0]


def test_the_scores_have_what_is_done(tmp_path):
    journal = open_journal(tmp_path, views=2)
    add(journal, [0, 2, 4])
    ids, labels = [f"v{number}" for number in range(23)], np.zeros(23, np.int32)
    scores = journal.to_scores(make_evaluation(clips=2), ids, labels, ["a", "b", "c"])
    assert np.flatnonzero(scores.evaluated).tolist() == [0, 2, 4]
    np.testing.assert_array_equal(scores.only_evaluated().logits, LOGITS[[0, 2, 4]])
    np.testing.assert_array_equal(scores.only_evaluated().view_logits, VIEWS[[0, 2, 4]])


def test_a_journal_goes_when_the_score_file_is_there(tmp_path):
    journal = open_journal(tmp_path)
    add(journal, [1])
    journal.flush()
    journal.remove()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        open_journal(tmp_path / "file")


def test_the_folder_says_which_test_it_is_of(tmp_path):
    journal = open_journal(tmp_path)
    assert journal.folder.name == "validation_8x1x2_9_01234567.partial"
    about = json.loads((journal.folder / "about.json").read_text())
    assert about["identity"] == IDENTITY
