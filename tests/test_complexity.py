"""Parameters and multiply-accumulates, to the last one."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from aia_jax import config as configs
from aia_jax import create_model
from aia_jax.complexity import EXPRESSIONS, count
from aia_jax.models.from_config import model_from_config

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

# Every recipe in configs/ has its line here.
CONFIG_PARAMETERS = {
    "demo": 129_048,
    "ssv1_tsn": 23_864_558,
    "ssv1_aia_tsn": 23_871_726,
    "ssv1_tsm": 23_864_558,
    "ssv1_aia_tsm": 23_871_726,
    "ssv2_tsn": 23_864_558,
    "ssv2_aia_tsn": 23_871_726,
    "ssv2_tsm": 23_864_558,
    "ssv2_aia_tsm": 23_871_726,
    "diving48_tsn": 23_606_384,
    "diving48_aia_tsn": 23_613_552,
    "diving48_tsm": 23_606_384,
    "diving48_aia_tsm": 23_613_552,
    "egtea_tsn": 23_725_226,
    "egtea_aia_tsn": 23_732_394,
    "egtea_tsm": 23_725_226,
    "egtea_aia_tsm": 23_732_394,
    "epic55_verb_tsn": 23_764_157,
    "epic55_verb_aia_tsn": 23_771_325,
    "epic55_verb_tsm": 23_764_157,
    "epic55_verb_aia_tsm": 23_771_325,
    "epic55_noun_tsn": 24_229_280,
    "epic55_noun_aia_tsn": 24_236_448,
    "epic55_noun_tsm": 24_229_280,
    "epic55_noun_aia_tsm": 24_236_448,
    "kinetics400_tsn": 24_327_632,
    "kinetics400_aia_tsn": 24_334_800,
    "kinetics400_tsm": 24_327_632,
    "kinetics400_aia_tsm": 24_334_800,
    "own_videos": 23_517_249,  # one class, until the user says how many
    "ucf101_tsn": 23_714_981,
    "ucf101_aia_tsn": 23_722_149,
    "ucf101_tsm": 23_714_981,
    "ucf101_aia_tsm": 23_722_149,
}


def parameters(model) -> tuple[int, int]:
    """Those of the network with one class, and those that each further class adds."""
    clips = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(model.clone(num_classes=1).init, jax.random.key(0), clips)["params"]
    return tuple(
        sum(leaf.size for leaf in jax.tree.leaves(part)) for part in (shapes, shapes["head"])
    )


@pytest.mark.parametrize("temporal", ["tsn", "tsm"])
@pytest.mark.parametrize("attention", EXPRESSIONS)
def test_resnet50(temporal, attention):
    complexity = count(create_model(174, temporal=temporal, attention=attention))
    assert (complexity.params, complexity.macs, f"{complexity.paper_flops / 1e9:.2f}") == RESNET50[
        attention
    ]


def test_parts_of_a_network_counted_by_hand():
    """Width 2, one block, one class of 3, 2 frames of 8x8: small enough to count on paper."""
    model = create_model(3, width=2, stage_sizes=(1,), stem="small", attention="C")
    complexity = count(model, (2, 8, 8, 3))
    pixels = 2 * 8 * 8
    assert complexity.conv_macs == pixels * (
        27 * 2 + 2 * 2 + 9 * 2 * 2 + 2 * 8 + 2 * 8
    )  # stem, conv1, conv2, conv3, shortcut
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
    recipes = {path.stem for path in CONFIGS.glob("*.py")} - {"__init__", "base"}
    assert recipes == set(CONFIG_PARAMETERS)
    built = {name: configs.load(CONFIGS / f"{name}.py") for name in sorted(recipes)}
    models = {name: model_from_config(config) for name, config in built.items()}
    counted = {
        model: parameters(model)
        for model in {model.clone(num_classes=1) for model in models.values()}
    }  # recipes share them

    def of(model):
        with_one_class, a_class = counted[model.clone(num_classes=1)]
        return with_one_class + a_class * (model.num_classes - 1)

    assert {name: of(model) for name, model in models.items()} == CONFIG_PARAMETERS


def test_command():
    command = [
        sys.executable,
        "-m",
        "aia_jax.complexity",
        "--config",
        str(CONFIGS / "demo.py"),
        "--config.model.attention=CinST",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    config = configs.load(CONFIGS / "demo.py", ["model.attention=CinST"])
    complexity = count(model_from_config(config), (8, config.data.crop, config.data.crop, 3))
    assert (
        f"demo: {complexity.params:,} parameters, {complexity.macs:,} multiply-accumulates"
        in result.stdout
    )
    assert all(result.stdout.count(f" {attention} ") >= 2 for attention in EXPRESSIONS)
