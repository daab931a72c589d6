"""Parameters and multiply-accumulates, to the last one."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from aia_jax import config as configs
from aia_jax import create_model
from aia_jax.complexity import Complexity, count, main
from aia_jax.models import NETWORKS as MODELS
from aia_jax.models import model_from_config
from aia_jax.models.resnet.modeling import PAPER_ATTENTIONS
from aia_jax.published_costs import PUBLISHED_COSTS
from configs.networks import NETWORKS
from tests.helpers.other_network import other_network  # noqa: F401 (a fixture)

CONFIGS = Path(__file__).parents[1] / "configs"

# 174 classes, one 8x224x224 clip: parameters, MACs, and the G that the paper prints.
ONE_MODULE = (23_868_142, 32_829_987_984, "33.01")
TWO_MODULES = (23_871_726, 32_960_035_104, "33.15")
RESNET50 = {
    "none": (23_864_558, 32_699_940_864, "32.88"),
    "C": (23_865_454, 32_705_931_408, "32.88"),
    "ST": (23_867_246, 32_823_997_440, "33.01"),
    "C->ST": ONE_MODULE,
    "ST->C": ONE_MODULE,
    "C+ST": ONE_MODULE,
    "CinST": ONE_MODULE,
    "STinC": ONE_MODULE,
    "CinST->STinC": TWO_MODULES,
    "STinC->CinST": TWO_MODULES,
    "CinST+STinC": TWO_MODULES,
}

AIA = NETWORKS["tsn"].kind
# Every network of that kind of every recipe in configs/ has its line here, with its default
# options. The others have theirs in tests/models/.
CONFIG_PARAMETERS = {
    "demo.py:tsn": 129_048,
    "demo.py:c": 129_216,
    "demo.py:aia_tsn": 130_392,
    "demo.py:tsm": 129_048,
    "demo.py:aia_tsm": 130_392,
    "ssv1.py:tsn": 23_864_558,
    "ssv1.py:aia_tsn": 23_871_726,
    "ssv1.py:tsm": 23_864_558,
    "ssv1.py:aia_tsm": 23_871_726,
    "ssv2.py:tsn": 23_864_558,
    "ssv2.py:aia_tsn": 23_871_726,
    "ssv2.py:tsm": 23_864_558,
    "ssv2.py:aia_tsm": 23_871_726,
    "diving48.py:tsn": 23_606_384,
    "diving48.py:aia_tsn": 23_613_552,
    "diving48.py:tsm": 23_606_384,
    "diving48.py:aia_tsm": 23_613_552,
    "egtea.py:tsn": 23_725_226,
    "egtea.py:aia_tsn": 23_732_394,
    "egtea.py:tsm": 23_725_226,
    "egtea.py:aia_tsm": 23_732_394,
    "epic55.py:tsn,label=verb": 23_764_157,
    "epic55.py:aia_tsn,label=verb": 23_771_325,
    "epic55.py:tsm,label=verb": 23_764_157,
    "epic55.py:aia_tsm,label=verb": 23_771_325,
    "epic55.py:tsn,label=noun": 24_229_280,
    "epic55.py:aia_tsn,label=noun": 24_236_448,
    "epic55.py:tsm,label=noun": 24_229_280,
    "epic55.py:aia_tsm,label=noun": 24_236_448,
    "kinetics400.py:tsn": 24_327_632,
    "kinetics400.py:aia_tsn": 24_334_800,
    "kinetics400.py:tsm": 24_327_632,
    "kinetics400.py:aia_tsm": 24_334_800,
    "ucf101.py:tsn": 23_714_981,
    "ucf101.py:aia_tsn": 23_722_149,
    "ucf101.py:tsm": 23_714_981,
    "ucf101.py:aia_tsm": 23_722_149,
    # One class, until the user says how many.
    "own_videos.py:tsn": 23_510_081,
    "own_videos.py:aia_tsn": 23_517_249,
    "own_videos.py:tsm": 23_510_081,
    "own_videos.py:aia_tsm": 23_517_249,
    "own_videos_small.py:tsn": 499_233,
    "own_videos_small.py:aia_tsn": 500_577,
    "own_videos_small.py:tsm": 499_233,
    "own_videos_small.py:aia_tsm": 500_577,
}


def parameters(model) -> tuple[int, int]:
    """Those of the network with one class, and those that each further class adds."""
    clips = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(model.clone(num_classes=1).init, jax.random.key(0), clips)["params"]
    return tuple(
        sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (shapes, shapes["head"])
    )


@pytest.mark.parametrize(
    ("temporal", "attention"),
    [*(("tsn", attention) for attention in PAPER_ATTENTIONS), ("tsm", "CinST->STinC")],
)
def test_resnet50(temporal, attention):
    complexity = count(create_model(174, temporal=temporal, attention=attention))
    found = (complexity.params, complexity.macs, f"{complexity.paper_flops / 1e9:.2f}")
    assert found == RESNET50[attention]


@pytest.mark.parametrize("attention", PAPER_ATTENTIONS)
def test_the_temporal_shift_costs_nothing(attention):
    tsn = create_model(3, width=8, stage_sizes=(1,), stem="small", attention=attention)
    assert count(tsn, (2, 8, 8, 3)) == count(tsn.clone(temporal="tsm"), (2, 8, 8, 3))


def test_parts_of_a_network_counted_by_hand():
    """Width 2, one block, one class of 3, 2 frames of 8x8: small enough to count on paper."""
    model = create_model(3, width=2, stage_sizes=(1,), stem="small", attention="C")
    complexity = count(model, (2, 8, 8, 3))
    pixels = 2 * 8 * 8
    # Stem, conv1, conv2, conv3 and shortcut.
    assert complexity.conv_macs == pixels * (27 * 2 + 2 * 2 + 9 * 2 * 2 + 2 * 8 + 2 * 8)
    assert complexity.dense_macs == 2 * 8 * 3  # every frame has logits
    assert complexity.gate_macs == pixels * 54
    assert complexity.norm_elements == pixels * (2 + 2 + 2 + 8 + 8 + 1)
    assert (
        complexity.params
        == 54 + 4 + 4 + 36 + 16 + 16 + 2 * (2 + 2 + 2 + 8 + 8 + 1) + 8 * 3 + 3 - 4 + 54
    )


def test_counting_again_counts_the_same():
    model = create_model(3, width=2, stage_sizes=(1,), stem="small", attention="C")
    assert count(model, (2, 8, 8, 3)) == count(model, (2, 8, 8, 3))


def test_every_recipe_has_its_number_of_parameters():
    recipes = set()
    for path in CONFIGS.glob("*.py"):
        argument = getattr(importlib.import_module(f"configs.{path.stem}"), "ARGUMENT", None)
        names = argument.networks if argument else ()
        recipes |= {f"{path.name}:{name}" for name in names if argument.networks[name].kind == AIA}
    assert recipes == {recipe.partition(",")[0] for recipe in CONFIG_PARAMETERS}
    built = {recipe: configs.load(CONFIGS / recipe) for recipe in CONFIG_PARAMETERS}
    models = {name: model_from_config(config) for name, config in built.items()}
    # Recipes share them.
    counted = {
        model: parameters(model)
        for model in {model.clone(num_classes=1) for model in models.values()}
    }

    def total(model):
        with_one_class, a_class = counted[model.clone(num_classes=1)]
        return with_one_class + a_class * (model.num_classes - 1)

    assert {name: total(model) for name, model in models.items()} == CONFIG_PARAMETERS


def test_the_command_counts_the_recipes_network_and_its_variants(capsys):
    overrides = ["model.attention=CinST", "model.stage_sizes=1,1"]
    recipe = str(CONFIGS / "demo.py:tsn")
    main(["--config", recipe, *(f"--config.{override}" for override in overrides)])
    printed = capsys.readouterr().out
    config = configs.load(recipe, overrides)
    complexity = count(model_from_config(config), (8, config.data.crop, config.data.crop, 3))
    numbers = f"{complexity.params:,} parameters, {complexity.macs:,} multiply-accumulates"
    assert f"demo_tsn: {numbers}" in printed
    rows = [line.replace("│", " ").split()[:2] for line in printed.splitlines()]
    for temporal in ("tsn", "tsm"):
        assert all([temporal, attention] in rows for attention in PAPER_ATTENTIONS)


@pytest.mark.usefixtures("other_network")
def test_the_command_compares_a_network_with_its_own_variants(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from configs import base\n\ndef get_config():\n    config = base.get_config()\n"
        "    base.use_network(config, 'other')\n    return config\n"
    )
    main(["--config", str(recipe), "--config.data.crop=16", "--config.data.num_classes=2"])
    printed = capsys.readouterr().out
    # 8 segments of 17 tokens with 4 channels, from patches of 4x4; the head sees 8 tokens.
    params = 5 + 4 + (16 * 3 * 4 + 4) + 2 * 4 + 4 * 4 + (4 * 2 + 2)
    macs = 8 * (16 * 16 * 3 * 4 + 17 * 4 * 4 + 4 * 2)
    attention = 8 * 2 * 17 * 17 * 4
    assert f"mine: {params} parameters, {macs:,} multiply-accumulates" in printed
    assert "for one clip of 40 x 16 x 16 x 3 and 2 classes" in printed
    rows = [line.replace("│", " ").split() for line in printed.splitlines()]
    costs = [str(params), f"{macs:,}", f"{attention:,}", "0.00"]
    assert ["none", *costs] in rows and ["KV", *costs] in rows
    assert "temporal" not in printed


def test_the_family_has_every_network_beside_published_numbers(monkeypatch, capsys):
    """Counting all of them takes a minute, so the numbers stand still; other tests count."""
    costs = Complexity(26_379_502, 32_925_000_000, 0, 0, 9_000_000)
    monkeypatch.setattr("aia_jax.complexity.count", lambda model, clip_shape: costs)
    main(["--family"])
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.strip().startswith("TSN with SE3D, ResNet-50 ")]
    expected = "26,379,502 32,925,000,000 0 32.94 26.38M 32.94 AIA, Table I"
    assert " ".join(row.split()[4:]) == expected
    named = [line.strip().partition("  ")[0] for line in lines]
    described = {create_model(174, name=name).describe() for name in MODELS}
    assert described | set(PUBLISHED_COSTS) <= set(named)


@pytest.mark.parametrize("text", ["TSN with SE3D, ResNet-50", "GST, ResNet-50"])
def test_counts_agree_with_published_ones(text):
    """Those of AIA's networks and of ViTs have tests of their own."""
    family = [
        plain.clone(**fields)
        for plain in (create_model(174, name=name) for name in MODELS)
        for fields in plain.variants()
    ]
    costs = count(next(model for model in family if model.describe() == text))
    published = PUBLISHED_COSTS[text]
    exact = f"{costs.params:,}", f"{costs.macs / 1e9:.4f}"
    rounded = f"{costs.params / 1e6:.2f}M", f"{costs.paper_flops / 1e9:.2f}"
    assert (published.params, published.giga) in (exact, rounded)
