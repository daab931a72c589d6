"""The ways to train that stand beside a network: what they set, and that their groups fit."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from aia_jax import config as configs
from aia_jax.config_fields import leaves
from aia_jax.models import clip_shape, model_from_config
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from configs.methods import METHODS
from tests.helpers.paths import ROOT

SVMIX = {"train.method": "svmix", "train.label_smoothing": 0.1, "data.sampling": "shared"}
HALVES = {"train.batch_size": 64, "train.accumulate": 2, "optim.lr_batch_size": 64}
ADAMW = {
    "optim.name": "adamw",
    "optim.lr": 2e-4,
    "optim.lr_batch_size": 32,
    "optim.betas": (0.9, 0.999),
    "optim.weight_decay": 0.05,
    "optim.schedule": "cosine",
    "optim.milestones": (),
    "optim.warmup_epochs": 5.0,
    "train.batch_size": 32,
    "train.accumulate": 1,
    "train.epochs": 50,
}
COSINE = {"optim.schedule": "cosine", "optim.milestones": ()}


def changed(recipe: str, network: str, method: str, options: str = "") -> dict:
    """What a method sets otherwise than the network's own recipe."""
    module = importlib.import_module(f"configs.{recipe}")
    plain = leaves(module.get_config(f"{network}{options}"))
    found = leaves(module.get_config(f"{network},{method}{options}"))
    return {key: value for key, value in found.items() if value != plain[key] and key != "paper"}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "ssv1",
            {"data.flip": 0.0, "train.epochs": 55, "optim.milestones": (25, 50)},
        ),
        (
            "ssv2",
            {"data.flip": 0.0, "train.epochs": 55, "optim.milestones": (25, 50)},
        ),
        ("diving48", HALVES | {"svmix.lr": 0.04}),
        ("egtea", HALVES | {"svmix.lr": 0.04}),
        ("ucf101", HALVES | {"svmix.lr": 0.01, "svmix.mode": "temporal", "optim.lr": 0.02}),
        ("epic55", {}),
    ],
)
def test_svmix_is_set_as_its_authors_set_it_for_a_data_set(recipe, expected):
    found = changed(recipe, "tsm", "svmix")
    groups = dict(found.pop("optim.groups"))
    assert (groups["head/kernel"]["lr"], groups["head/bias"]["lr"]) == (5.0, 10.0)
    assert found == SVMIX | expected


def test_networks_with_a_recipe_keep_their_schedule_beside_svmix():
    of_the_set = {"svmix.lr": 0.04}
    assert changed("diving48", "h2cn", "svmix") == SVMIX | of_the_set
    assert changed("diving48", "gst", "svmix") == SVMIX | of_the_set
    found = changed("diving48", "tokshift", "svmix")
    assert [group[1]["decay"] for group in found.pop("optim.groups")] == [1.0, 0.0]
    assert found == SVMIX | ADAMW | of_the_set


def test_svmix_trains_transformers_on_ucf101_as_its_authors_train_vivit():
    found = changed("ucf101", "vit", "svmix")
    assert (found["optim.lr"], found["svmix.lr"]) == (2e-5, 0.02)
    assert "svmix.mode" not in found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["vit", "msca_kv", "tsm_nl"])
def test_kinetics_keeps_the_frames_that_a_networks_numbers_are_of(network, method):
    assert "data.sampling" not in changed("kinetics400", network, method)


def test_the_modern_recipe_is_a_cosine_and_randaugment_and_adamw_for_transformers():
    for network in ("tsm", "aia_tsm", "h2cn", "gst"):
        assert changed("ssv1", network, "modern") == COSINE | {
            "data.randaugment": 2,
            "data.randaugment_prob": 1.0,
        }
    found = changed("ssv1", "vit", "modern")
    assert [group[1]["decay"] for group in found.pop("optim.groups")] == [1.0, 0.0]
    assert found == ADAMW | {
        "data.randaugment": 2,
        "optim.layer_decay": 0.75,
        "train.label_smoothing": 0.1,
        "train.mixup": 0.8,
        "train.cutmix": 1.0,
    }


def test_a_method_keeps_the_number_of_frames_that_the_network_has_there():
    assert configs.load(ROOT / "configs/diving48.py:h2cn,svmix").data.num_frames == 16


def test_own_videos_draw_from_whole_videos_with_any_method():
    assert configs.load(ROOT / "configs/own_videos.py:tsm,svmix").data.sampling == "uniform"


def test_a_method_is_part_of_the_runs_name():
    assert configs.name("configs/egtea.py:tsm,svmix,split=2") == "egtea_tsm_svmix_split2"


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ("ssv1.py:tsm,svmix", "47.2% top-1 (SV-Mix's README; 8 frames × 1 crop × 1 clip) for TSM"),
        ("ssv1.py:tsn,svmix", "none for TSN with svmix"),
        ("ucf101.py:tsm,svmix,split=2", "none for TSM with svmix"),
        ("egtea.py:tsm,modern,split=1", "none for TSM with modern"),
    ],
)
def test_the_number_is_that_of_network_and_method(recipe, text):
    assert configs.load(ROOT / f"configs/{recipe}").paper == text


@pytest.mark.parametrize("network", ["tsm", "aia_tsm", "s3d_g", "cbam3d377", "c3d", "vit"])
def test_the_groups_of_a_method_fit_the_network(network):
    """Every parameter has a group, and no group is without a parameter."""
    narrow = configs.load(ROOT / f"configs/demo.py:{network}")
    model = model_from_config(narrow).clone(num_frames=2)
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, 48)), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), clips)["params"]
    for method in METHODS:
        groups = configs.load(ROOT / f"configs/diving48.py:{network},{method}").optim.groups
        assign_groups(params, parse_groups(groups))


@pytest.mark.parametrize("recipe", ["demo", "own_videos_small"])
def test_narrow_networks_take_methods_without_the_large_ones_schedules(recipe):
    found = changed(recipe, "tsm", "svmix")
    assert found.pop("svmix.ema_decay") < 0.99
    assert found == {"train.method": "svmix", "train.label_smoothing": 0.1}
    assert changed(recipe, "tsm", "modern") == COSINE | {"data.randaugment": 2}
    assert changed(recipe, "vit", "modern")["optim.name"] == "adamw"
