"""Memory that runs out is one line that says which fields need less."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aia_jax import config as configs
from aia_jax.errors import RunFailed
from aia_jax.memory import evaluation_advice, memory_advice, prediction_advice, training_advice
from tests.helpers.paths import ROOT
from tests.helpers.tiny_run import make_recipe, run_here

CONFIG = configs.load(ROOT / "configs" / "ssv2.py", ["train.accumulate=2", "train.remat=1"])
ADVICE = {
    "training": (lambda: training_advice(CONFIG), "batch_size accumulate (2; remat (1; crop"),
    "evaluation": (lambda: evaluation_advice(CONFIG), "eval.batch_size (32) crop remat"),
    "prediction": (lambda: prediction_advice((16, 8, 224, 224, 3)), "16 clips 8×224×224 --views"),
}


def all_of_xlas_memory() -> None:
    jax.block_until_ready(jax.jit(lambda: jnp.ones(1 << 44))())


def all_of_numpys_memory() -> None:
    np.ones(1 << 50)


@pytest.mark.parametrize("fill", [all_of_xlas_memory, all_of_numpys_memory])
@pytest.mark.parametrize("kind", ADVICE)
def test_the_line_names_what_ran_out_and_what_to_lower(kind, fill):
    advice, words = ADVICE[kind]
    with pytest.raises(RunFailed) as failure, memory_advice(advice):
        fill()
    text = str(failure.value)
    assert "\n" not in text
    for word in ("memory is full", *words.split()):
        assert word in text, text


def test_other_errors_go_on():
    with pytest.raises(ZeroDivisionError), memory_advice(lambda: ""):
        raise ZeroDivisionError


def test_a_step_that_memory_cannot_hold_ends_the_run_with_one_line(tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        all_of_numpys_memory()

    monkeypatch.setattr("train.prefetch_to_mesh", full)
    done = run_here("train.py", make_recipe(tmp_path), tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    for word in ("train.batch_size (4)", "train.accumulate (1", "train.remat (none", "crop (12)"):
        assert word in done.stderr, done.stderr
