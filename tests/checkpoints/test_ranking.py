"""By which metric a checkpoint is the best, and what that means for those that stay."""

import math

import pytest

from aia_jax.checkpoints.files import best_step, load_weights
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.checkpoints.ranking import choose_metric, metric_text, score_of
from aia_jax.checkpoints.trained_run import choose_step
from aia_jax.errors import UserError
from tests.helpers.tiny_state import META, assert_same, make_state

# By top-1 step 2 is the best one, by loss step 1, by mean-class accuracy step 3, before its equal.
METRICS = {
    1: {"top1": 0.1, "loss": 0.5, "mean_class_accuracy": 0.3},
    2: {"top1": 0.4, "loss": 0.9, "mean_class_accuracy": 0.2},
    3: {"top1": 0.3, "loss": 0.7, "mean_class_accuracy": 0.8},
    4: {"top1": 0.2, "loss": 0.8, "mean_class_accuracy": 0.8},
    5: {"top1": 0.2, "loss": math.nan, "mean_class_accuracy": math.nan},
}


def train(folder, best_by, said=True):
    with Checkpoints(folder, keep_latest=1, best_by=best_by) as checkpoints:
        for step, metrics in METRICS.items():
            meta = META | {"metrics": None} | ({"best_by": best_by} if said else {})
            checkpoints.save(step, make_state(step), meta)
            checkpoints.add_metrics(step, metrics)
        return checkpoints.best_step(), checkpoints.steps()


@pytest.mark.parametrize(
    ("best_by", "best"), [("top1", 2), ("loss", 1), ("mean_class_accuracy", 3)]
)
def test_the_best_step_by_its_metric_stays_and_is_found_by_the_folder_alone(
    tmp_path, best_by, best
):
    assert train(tmp_path, best_by) == (best, [best, 5])
    assert best_step(tmp_path) == choose_step(tmp_path, "best") == best
    assert_same(load_weights(tmp_path, "best")["params"], make_state(best).params)


def test_a_run_of_an_older_version_is_ranked_by_top1(tmp_path):
    assert train(tmp_path, "top1", said=False) == (2, [2, 5])
    assert best_step(tmp_path) == 2


def test_a_run_that_goes_on_by_another_metric_ranks_all_its_steps_anew(tmp_path):
    train(tmp_path, "top1")
    with Checkpoints(tmp_path, best_by="loss") as checkpoints:
        assert checkpoints.best_step() == 2  # the loss of step 5 is no number
        meta = META | {"metrics": {"loss": 0.6}, "best_by": "loss"}
        checkpoints.save(6, make_state(6), meta)
        checkpoints.wait()
        assert checkpoints.best_step() == best_step(tmp_path) == 6


def test_a_metric_that_data_of_a_kind_do_not_have_is_refused():
    assert choose_metric("", "") == choose_metric("", "single") == "top1"
    assert choose_metric("", "multi") == "map" and choose_metric("loss", "multi") == "loss"
    for metric, kind, words in (
        ("map", "", "one label a video .* top1, top5, loss or mean_class_accuracy"),
        ("mean_class_accuracy", "multi", "several labels a video .* top1, top5, loss or map"),
    ):
        with pytest.raises(UserError, match=rf"train\.best_by: found {metric}, .*{words}"):
            choose_metric(metric, kind)


def test_scores_and_texts_of_metrics():
    assert score_of({"loss": 0.5}, "loss") > score_of({"loss": 0.6}, "loss")
    assert score_of({"top1": 0.5}, "map") is score_of(None, "top1") is None
    assert score_of({"top1": None}, "top1") is None
    assert metric_text("loss", METRICS[1]) == "loss 0.5000"
    assert metric_text("mean_class_accuracy", METRICS[1]) == "mean-class accuracy 30.00%"
