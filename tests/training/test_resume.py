"""Whether and how a run goes on: what a user is told of a config that another version wrote."""

import pytest

from aia_jax import config as configs
from aia_jax.checkpoints.manager import Checkpoints
from aia_jax.errors import UserError
from aia_jax.training.resume import choose_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_run import RECIPE

CLASSES = ("moving left", "moving right", "standing")

# As every config had them before networks had groups of their own.
OLD = (
    '((".*/kernel",{"lr":1.0,"decay":1.0}),("head/bias",{"lr":2.0,"decay":0.0}),'
    '(".*bn[^/]?/(scale|bias)",{"lr":1.0,"decay":0.0}))'
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.py"
    path.write_text(RECIPE.format(data="gone"))
    return path


@pytest.mark.parametrize(
    ("groups", "noted"), [(OLD, False), (OLD.replace("2.0", "5.0"), True), ('((".*",{}),)', True)]
)
def test_a_run_with_groups_in_its_config_goes_on_with_the_networks(recipe, tmp_path, groups, noted):
    make_run(tmp_path, recipe, [f"optim.groups={groups}"], CLASSES, {})
    config = configs.load(recipe)
    assert (
        config.optim.groups
        and config.optim.groups != configs.load(recipe, [f"optim.groups={groups}"]).optim.groups
    )
    config.data.label_kind = "single"  # as the data say; the old config does not
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        meta, notes = choose_checkpoint(checkpoints, None, config, CLASSES, {"dir": "gone"}, 100)
    assert meta["position"] == 12
    assert any(note.startswith("optim.groups was ") for note in notes) == noted
    assert not any("label_kind" in note for note in notes)


def test_a_default_written_out_is_the_same_network(tmp_path):
    recipe = ROOT / "configs" / "demo.py:tokshift"
    elsewhere = "data.dir=gone"
    make_run(tmp_path, recipe, [elsewhere], CLASSES, {})

    def go_on(*overrides):
        config = configs.load(recipe, [elsewhere, *overrides])
        config.data.label_kind = "single"
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:
            return choose_checkpoint(checkpoints, None, config, CLASSES, {"dir": "gone"}, 100)[1]

    assert not any("model." in note for note in go_on("model.shift_div=4"))
    with pytest.raises(UserError, match=r"config key model.shift_div: .* another network"):
        go_on("model.shift_div=2")
