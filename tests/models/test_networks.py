"""The table of networks: fields, building a network by name or from a config, wrong ones."""

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.models import (
    NETWORKS,
    model_fields,
    model_from_config,
    network_of,
    training_model,
)
from aia_jax.models.resnet.modeling import ResNet
from configs import base
from tests.helpers.other_network import OtherNetwork, other_network  # noqa: F401 (a fixture)


def test_the_fields_of_a_config_are_those_of_the_class():
    assert model_fields("resnet") == {
        "depth": 50,
        "temporal": "tsn",
        "attention": "none",
        "dropout": 0.5,
        "width": 64,
        "stage_sizes": (),
        "stem": "imagenet",
        "fold_div": 8,
        "shift_blocks": "aia",
        "non_local": False,
        "compute_dtype": "float32",
    }


@pytest.mark.usefixtures("other_network")
def test_a_second_network_needs_a_row_of_the_table_only():
    assert model_fields("other") == {
        "mixing": "none",
        "dropout": 0.25,
        "sizes": (),
        "channels": 4,
        "compute_dtype": "bfloat16",
    }
    model = create_model(5, 4, name="other", mixing="KV", sizes=[1, 2])
    assert model == OtherNetwork(5, 4, mixing="KV", sizes=(1, 2))
    assert network_of(model) is NETWORKS["other"]
    assert network_of(create_model(5)) is NETWORKS["resnet"]


def test_a_module_that_is_no_network_of_the_table():
    with pytest.raises(ValueError, match=r"OtherNetwork is no network of the table.*resnet"):
        network_of(OtherNetwork(5))


@pytest.mark.usefixtures("other_network")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "CinSTT"}, "attention CinSTT C, ST, CinST, STinC"),
        ({"attention": "C->"}, "no attention module"),
        ({"temporal": "tsx"}, "temporal 'tsx' tsn or tsm"),
        ({"depth": 18}, "depth 18 50 or 101"),
        ({"stem": "big"}, "stem 'big' imagenet or small"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"width": 0}, "width 0"),
        ({"width": 4, "temporal": "tsm"}, "fold_div 8 leaves nothing to shift in 4 channels"),
        ({"stage_sizes": (2,), "non_local": True}, "non_local True False second stage"),
        ({"stage_sizes": (1, 1), "remat": (3,)}, "remat 3 stages from 1 to 2"),
        ({"num_classes": 0}, "num_classes 0 at least one class"),
        ({"name": "resnets"}, "'resnets' resnet, other"),
        ({"temporl": "tsm"}, "'temporl' did you mean temporal?"),
        ({"zzz": 1}, "'zzz' it has depth, temporal, attention"),
        ({"mixing": "KV"}, "mixing is a field of the network other, this one is resnet"),
        ({"name": "other", "attention": "C"}, "attention is a field of the network resnet"),
        ({"name": "other", "mixing": "Q"}, "mixing 'Q' none or KV"),
    ],
)
def test_wrong_options_name_the_right_ones(options, words):
    with pytest.raises(ValueError) as error:
        create_model(**{"num_classes": 5, **options})
    for word in words.split():
        assert word in str(error.value), error.value


def test_a_depth_that_no_resnet_has_is_not_looked_at_beside_stage_sizes():
    assert create_model(5, depth=18, stage_sizes=(1, 2)).stages == (1, 2)
    assert create_model(5, depth=101).stages == (3, 4, 23, 3)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"temporal": "tsm", "attention": "CinST->STinC"}, "TSM with CinST->STinC, ResNet-50"),
        ({"stage_sizes": (1, 1, 1)}, "TSN, ResNet with stages of 1-1-1 blocks"),
        ({"depth": 101, "attention": "C"}, "TSN with C, ResNet-101"),
        ({"temporal": "tsm", "non_local": True}, "TSM with non-local blocks, ResNet-50"),
        ({"attention": "C", "non_local": True}, "TSN with C and non-local blocks, ResNet-50"),
    ],
)
def test_a_resnet_describes_itself(fields, text):
    assert create_model(5, **fields).describe() == text


def test_a_config_gives_every_field_to_its_network():
    config = base.get_config()
    config.data.num_classes, config.data.num_frames = 7, 3
    config.model.update(
        depth=101,
        temporal="tsm",
        attention="C",
        dropout=0.1,
        width=16,
        stage_sizes=(1, 2),
        stem="small",
        fold_div=4,
        shift_blocks="tsm",
        compute_dtype="bfloat16",
    )
    config.train.update(partial_bn=True, bn_group_size=2, remat=(1,))
    model = model_from_config(config)
    assert model == ResNet(
        7,
        3,
        depth=101,
        temporal="tsm",
        attention="C",
        dropout=0.1,
        width=16,
        stage_sizes=(1, 2),
        stem="small",
        fold_div=4,
        shift_blocks="tsm",
        dtype=jnp.dtype("bfloat16"),
    )
    expected = model.clone(partial_bn=True, bn_group_size=2, remat=(1,))
    assert training_model(config) == expected


def test_a_config_that_names_no_network_is_a_resnets():
    fields = {"stage_sizes": [1, 1], "width": 8}
    config = {"model": fields, "data": {"num_classes": 3, "num_frames": 8}}
    assert model_from_config(config) == create_model(3, stage_sizes=(1, 1), width=8)


@pytest.mark.usefixtures("other_network")
def test_a_setting_that_the_network_does_not_have_is_an_error_that_names_both():
    config = base.get_config()
    base.use_network(config, "other")
    assert training_model(config) == create_model(1, name="other", dtype=jnp.dtype("bfloat16"))
    config.train.bn_group_size = 8
    with pytest.raises(UserError, match=r"train\.bn_group_size: found 8.*other"):
        training_model(config)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"depth": 18}, r"model\.depth: found 18, expected 50 or 101"),
        ({"compute_dtype": "float16"}, r"model\.compute_dtype: found 'float16'"),
        ({"name": "x"}, "'x'.*resnet"),
        ({"mixing": "KV"}, "'mixing'"),
    ],
)
def test_a_wrong_section_of_a_saved_config_is_an_error_of_the_user(section, key):
    config = ConfigDict({"model": section, "data": {"num_classes": 3, "num_frames": 8}})
    with pytest.raises(UserError, match=key):
        model_from_config(config)
