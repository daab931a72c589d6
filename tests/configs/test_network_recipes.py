"""The recipes of networks that are trained otherwise than the paper's, and what is reported."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from aia_jax import config as configs
from aia_jax.config_fields import leaves
from aia_jax.demo.family import FAMILY
from aia_jax.models import NETWORKS as CLASSES
from aia_jax.models import clip_shape, model_from_config
from configs import base
from configs.networks import NETWORKS
from tests.helpers.paths import ROOT

# Read from the authors' recipes: what differs from base.py, beside the network.
H2CN = {
    "optim.lr_batch_size": 8,
    "optim.weight_decay": 5e-4,
    "optim.milestones": (30, 45, 55),
    "train.batch_size": 8,
    "train.epochs": 60,
}
GST = {
    "data.resize": "short256",
    "optim.lr_batch_size": 24,
    "optim.weight_decay": 3e-4,
    "optim.milestones": (50, 60),
    "train.batch_size": 24,
    "train.epochs": 70,
}
VIT = {
    "data.resize": "short224",
    "data.short_side": (224, 329),
    "optim.lr": 0.1,
    "optim.lr_batch_size": 420,
    "optim.weight_decay": 0.0,
    "optim.clip_norm": 1.0,
    "optim.milestones": (10, 15),
    "train.accumulate": 10,
    "train.batch_size": 420,
    "train.epochs": 18,
    "train.label_smoothing": 0.01,
}
TSM_NL = {"optim.lr_batch_size": 64, "train.batch_size": 64}
ON_KINETICS = {
    "h2cn": H2CN,
    "vit": VIT | {"data.sampling": "dense32"},
    "tokshift": VIT | {"data.sampling": "dense32"},
    "msca_kv": VIT | {"data.sampling": "dense32"},
    "gst": GST,
    "tsm_nl": TSM_NL
    | {"data.sampling": "dense8", "optim.milestones": (40, 80), "train.epochs": 100},
    "c3d": {},
    "se3d": {},
    "aia_tsm": {},
}
ELSEWHERE = ON_KINETICS | {
    "vit": VIT,
    "tokshift": VIT,
    "msca_kv": VIT,
    "gst_large": GST,
    "tsm_nl": TSM_NL,
}


def differences(recipe: str, network: str) -> dict:
    """What the recipe's training has otherwise than base.py."""
    config = importlib.import_module(f"configs.{recipe}").get_config(network)
    defaults = leaves(base.get_config())
    whose = ("model.", "data.name", "data.dir", "data.num_classes", "data.expected", "paper")
    return {
        key: value
        for key, value in leaves(config).items()
        if not key.startswith(whose) and value != defaults[key]
    }


@pytest.mark.parametrize(
    ("recipe", "expected"), [("kinetics400", ON_KINETICS), ("ssv2", ELSEWHERE), ("ssv1", ELSEWHERE)]
)
def test_a_network_is_trained_as_its_authors_train_it(recipe, expected):
    assert {network: differences(recipe, network) for network in expected} == expected


def test_own_videos_keep_their_rules_for_frames():
    data = {
        name: importlib.import_module("configs.own_videos").get_config(name).data
        for name in ("aia_tsm", "gst", "vit", "h2cn")
    }
    assert {name: found.resize for name, found in data.items()} == {
        "aia_tsm": "short256",
        "gst": "short256",
        "vit": "short224",
        "h2cn": "short256",
    }
    assert {found.sampling for found in data.values()} == {"uniform"}


def test_dropout_before_the_head_is_the_authors():
    found = {
        network: importlib.import_module("configs.ssv2").get_config(network).model.dropout
        for network in ("tsm", "tsm_nl", "c3d", "h2cn", "gst", "gst_large", "vit", "msca_kv")
    }
    assert found == dict.fromkeys(("tsm", "tsm_nl", "c3d", "h2cn"), 0.5) | dict.fromkeys(
        ("gst", "gst_large"), 0.3
    ) | dict.fromkeys(("vit", "msca_kv"), 0.0)


REPORTED = {
    ("ssv1", "cbam3d377"): "43.4% top-1, 72.2% top-5 (Table I; 8 frames × 1 crop × 1 clip) for TSN "
    "with CBAM3D377",
    ("ssv1", "cbam3d377_tsm"): "none for TSM with CBAM3D377",
    ("ssv1", "h2cn"): "53.6% top-1, 81.4% top-5 (H2CN's README; 8 frames × 1 crop × 1 clip) for "
    "H2CN",
    ("ssv2", "gst_large"): "62.0% top-1 (GST's README; 8 frames × 1 crop × 1 clip) for GST-Large",
    ("diving48", "c3d"): "73.4% top-1, 96.0% top-5 (Table III; split V2; 8 frames) for C3D",
    ("diving48", "h2cn"): "87.0% top-1 (H2CN's README; 16 frames × 1 crop × 1 clip) for H2CN",
    ("egtea", "gst,split=2"): "61.2% top-1 (Table IV; split 2; 8 frames) for GST",
    ("egtea", "h2cn,split=3"): "60.5% top-1 (H2CN's README; split 3; 8 frames × 1 crop × 1 clip) "
    "for H2CN",
    ("epic55", "c3d,label=noun"): "21.5% top-1 (Table V; a split of the paper's own, not "
    "published; 8 frames) for C3D",
    ("kinetics400", "tokshift"): "77.28% top-1 (TokShift's README; 8 frames × 3 crops × 10 clips) "
    "for TokShift, ViT-B/16",
    ("kinetics400", "tsm_nl"): "75.6% top-1 (TSM's README; 8 frames × 3 crops × 10 clips) for TSM "
    "with non-local blocks",
    ("kinetics400", "msca_kv"): "none for MSCA-KV, ViT-B/16",
}


@pytest.mark.parametrize(("recipe", "argument"), REPORTED)
def test_a_recipe_says_who_reports_its_number(recipe, argument):
    config = importlib.import_module(f"configs.{recipe}").get_config(argument)
    assert config.paper == REPORTED[recipe, argument]


def test_the_family_has_every_class_of_networks():
    fields = [NETWORKS[member.argument].fields for member in FAMILY if member.argument != "c"]
    assert {row["name"] for row in fields} == set(CLASSES)


@pytest.mark.parametrize("network", [member.argument for member in FAMILY])
def test_the_demo_makes_a_network_narrow(network):
    config = configs.load(ROOT / f"configs/demo.py:{network}")
    assert config.init_from == "scratch" and config.paper == ""
    assert (config.data.num_classes, config.data.crop, config.data.resize) == (8, 48, (52, 52))
    model = model_from_config(config).clone(num_frames=2)
    clips = jax.ShapeDtypeStruct((1, *clip_shape(model, config.data.crop)), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), clips)
    assert logits.shape == (1, 8)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) < 400_000


@pytest.mark.parametrize("recipe", ["demo", "own_videos_small"])
def test_narrow_networks_are_not_trained_by_the_large_ones_recipe(recipe):
    for network in ("tsn", "h2cn", "gst"):
        assert differences(recipe, network) == differences(recipe, "tsm")


def test_help_beside_a_recipe_groups_networks_by_kind(capsys):
    with pytest.raises(SystemExit):
        configs.parse(["--help", "--config", str(ROOT / "configs/ssv1.py")], "Trains.")
    text = capsys.readouterr().out
    headings = [line[1:] for line in text.splitlines() if line[:1] == " " and line[1:2].isalpha()]
    kinds = dict.fromkeys(network.kind for network in NETWORKS.values())
    assert headings[-5:] == [*kinds, "ways to train, beside a network"]
    assert "\n  gst_large       GST-Large; GST's README 47.7% top-1\n" in text
    assert "; tsm: mmaction2's README 47.85% top-1\n" in f"{text}\n"
