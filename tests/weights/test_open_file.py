"""A downloaded file says of which network it is, or what has to be said."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from aia_jax import config as configs
from aia_jax.config_check import check
from aia_jax.errors import UserError
from aia_jax.models import create_model, name_of
from aia_jax.models.torch_keys import Choice
from aia_jax.models.vit.shift import SHIFTS
from aia_jax.models.vit.torch_sizes import Found, propose_sizes
from aia_jax.weights import to_torch
from aia_jax.weights.open_file import open_file
from aia_jax.weights.recognise import propose_fields
from aia_jax.weights.source_cards import CARDS, SourceCard
from tests.helpers.paths import GOLDEN
from tests.helpers.tiny_variables import drawn

NARROW = {"width": 8, "stage_sizes": (1, 1), "stem": "small"}
VIT = {"size": "", "width": 8, "layers": 2, "heads": 2, "mlp_dim": 16, "patch": 8}
CLIPS = {"num_frames": 4, "crop": 16, "resize": "short20", "sampling": "uniform"}
TEMPORAL = Choice(("tsn", "tsm"))


def state_dict_of(num_classes: int = 3, **fields) -> dict[str, np.ndarray]:
    """The state dict of a narrow network, with the keys that --to-torch writes."""
    model = create_model(num_classes, 2, **fields)
    size = getattr(model, "image_size", (16, 16))
    clips = np.zeros((1, 2 * model.segment_frames, *size, 3), np.float32)
    return to_torch(drawn(model, clips), model, clips.shape[1:])


def write(path, arrays, **metadata):
    safetensors.numpy.save_file(arrays, path, metadata)
    return path


@pytest.fixture(scope="module")
def plain():
    """A narrow TSN or TSM; its keys do not say which."""
    return state_dict_of(**NARROW)


@pytest.mark.parametrize(
    ("fields", "undecided"),
    [
        ({**NARROW, "attention": "CBAM3D177"}, {"temporal": TEMPORAL}),
        ({**NARROW, "attention": "ST->C"}, {"temporal": TEMPORAL}),
        (
            {**NARROW, "attention": "C->ST"},
            {"temporal": TEMPORAL, "attention": Choice(("C->ST", "C+ST"))},
        ),
        (
            {**NARROW, "attention": "CinST->STinC"},
            {
                "temporal": TEMPORAL,
                "attention": Choice(("CinST->STinC", "STinC->CinST", "CinST+STinC")),
            },
        ),
        ({**NARROW, "temporal": "tsm", "shift_blocks": "tsm"}, {}),
        ({**NARROW, "temporal": "tsm", "shift_blocks": "tsm", "non_local": True}, {}),
        ({"name": "h2cn", **NARROW}, {}),
        ({"name": "gst", **NARROW, "alpha": 2, "beta": 1}, {}),
        ({"name": "c3d", **NARROW}, {}),
        (
            {"name": "vit", **VIT, "image_size": (16, 16), "shift": "KV"},
            {"heads": Choice(()), "shift": Choice(tuple(SHIFTS))},
        ),
    ],
)
def test_the_arrays_of_every_network_show_its_fields(fields, undecided):
    proposed = propose_fields(state_dict_of(5, **fields))
    assert proposed.pop("num_classes") == 5
    chosen = {field: value for field, value in proposed.items() if isinstance(value, Choice)}
    assert chosen == undecided
    decided = {field: fields.get(field, "tsn") for field in chosen}
    model = create_model(5, 2, **{**proposed, **decided})
    expected = create_model(5, 2, **fields)
    # Shifts of a short network are the same by both rules; dropout shows in the head's name only.
    same = {"shift_blocks": "aia"} if name_of(model) == "resnet" else {}
    assert model.clone(**same) == expected.clone(**same)


FULL = {"depth": 50, "width": 64, "stem": "imagenet", "num_classes": 174}
AIA = Choice(("CinST->STinC", "STinC->CinST", "CinST+STinC"))


@pytest.mark.parametrize(
    ("file", "net", "expected"),
    [
        (
            "aia",
            "TSM_CinST2STinC_BN",
            {"name": "resnet", "temporal": TEMPORAL, "attention": AIA, **FULL},
        ),
        ("tsm_nl", "TSM-NL", {"name": "resnet", "temporal": "tsm", "non_local": True, **FULL}),
        ("h2cn", None, {"name": "h2cn", **FULL}),
        ("gst", "GST-Large alpha4 beta1", {"name": "gst", "alpha": 4, "beta": 1, **FULL}),
        ("vit", "MSCA-KV", {"name": "vit", "size": "", "width": 192, "image_size": (48, 48)}),
    ],
)
def test_the_authors_networks_show_their_sizes(file, net, expected):
    shapes = json.loads((GOLDEN / f"{file}_state_dict_shapes.json").read_text())
    shapes = shapes[net] if net else shapes
    arrays = {key: np.broadcast_to(np.float32(0), tuple(shape)) for key, shape in shapes.items()}
    proposed = propose_fields(arrays)
    assert {field: proposed[field] for field in expected} == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((768, 12, 3072), {"size": "B", "patch": 16}),
        ((1024, 24, 4096), {"size": "L", "patch": 16}),
        ((384, 12, 1536), {"size": "", "heads": 6, "width": 384}),
        ((384, 10, 1536), {"size": "", "heads": Choice(()), "layers": 10}),
    ],
)
def test_sizes_of_transformers_have_the_heads_of_their_papers(sizes, expected):
    fields = dict(zip(("width", "layers", "mlp_dim"), sizes, strict=True)) | {"patch": 16}
    found = {field: Found(size, "an array") for field, size in fields.items()}
    proposed = propose_sizes(found, np.zeros((1, 197, 1), np.float32))
    assert expected.items() <= proposed.items() and proposed["image_size"] == (224, 224)
    assert propose_sizes(found, np.zeros((1, 9, 1), np.float32))["image_size"] == Choice(())


def test_the_users_word_decides_what_no_array_shows(tmp_path, plain):
    path = write(tmp_path / "net.safetensors", plain)
    with pytest.raises(UserError) as error:
        open_file(path, CLIPS)
    assert "do not show temporal (tsn or tsm); say it, as load(…, temporal='tsm')" in str(
        error.value
    )
    run = open_file(path, {**CLIPS, "temporal": "tsm", "fold_div": 4})
    assert (run.model.temporal, run.model.fold_div, run.model.num_classes) == ("tsm", 4, 3)
    assert run.clip_shape == (4, 16, 16, 3) and run.config.data.resize == "short20"
    assert not run.notes and not run.names_known and run.workdir == path
    plain_names = {key.removeprefix("base_model."): value for key, value in plain.items()}
    plain_names = {key.replace("new_fc", "fc"): value for key, value in plain_names.items()}
    run = open_file(write(tmp_path / "imagenet.safetensors", plain_names), {"crop": 64})
    assert run.model.temporal == "tsn" and run.clip_shape == (8, 64, 64, 3)
    assert "taken: num_frames=8, resize='short256', sampling='reference'" in run.notes[-1]


def test_a_vision_transformer_takes_other_pictures(tmp_path):
    arrays = state_dict_of(name="vit", **VIT, image_size=16)
    path = write(tmp_path / "vit.safetensors", arrays)
    run = open_file(path, {"shift": "KV", "heads": 2})
    assert run.clip_shape == (8, 16, 16, 3) and run.config.data.resize == "short16"
    run = open_file(path, {"shift": "token", "heads": 2, "crop": 24})
    assert run.model.image_size == (24, 24) and any("resized" in note for note in run.notes)


def test_a_card_says_what_the_file_does_not(tmp_path, plain, monkeypatch):
    fields = {"name": "resnet", "temporal": "tsm", **NARROW}
    card = SourceCard(
        "tiny-tsm", "somebody", fields, "ssv2", 3, "short20", "uniform", (), 4, 16, file="tiny"
    )
    monkeypatch.setitem(CARDS, "tiny-tsm", card)
    path = write(tmp_path / "tiny.safetensors", plain)
    run = open_file(path, source="tiny-tsm")
    assert run.model.temporal == "tsm" and run.clip_shape == (4, 16, 16, 3)
    assert run.config.data.resize == "short20" and run.config.data.sampling == "uniform"
    assert run.notes == ("source: tiny-tsm, of somebody",)
    assert open_file(path, {"num_frames": 2}, source="tiny-tsm").clip_shape[0] == 2
    run = open_file(path, {**CLIPS, "temporal": "tsn"})
    assert "source='tiny-tsm' says how clips are made" in run.notes[0]
    other = next(name for name, card in CARDS.items() if card.num_classes == 400)
    with pytest.raises(UserError, match="num_classes 3, not 400"):
        open_file(path, source=other)
    with pytest.raises(UserError, match="there is no source 'tiny'"):
        open_file(path, source="tiny")
    wide = dataclasses.replace(card, model={**fields, "width": 64})
    monkeypatch.setitem(CARDS, "wide", wide)
    with pytest.raises(UserError, match="width 8, not 64; leave source='tiny-tsm' out"):
        open_file(path, source="wide")
    with pytest.raises(UserError, match="crop='a': expected a side in pixels"):
        open_file(path, {"crop": "a", "temporal": "tsn"})


def test_class_names_of_another_head_are_left_out(tmp_path, plain):
    names = {"aia_jax.class_names": json.dumps(["a", "b", "c"])}
    given = {**CLIPS, "temporal": "tsn"}
    run = open_file(write(tmp_path / "net.safetensors", plain, **names), given)
    assert run.class_names == ("a", "b", "c") and run.names_known
    names = {"aia_jax.class_names": json.dumps(["a", "b"])}
    run = open_file(write(tmp_path / "net.safetensors", plain, **names), given)
    assert run.class_names[0] == "class 0" and "names 2 classes and its head has 3" in run.notes[0]


@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        ({}, {"temporl": "tsm"}, "has no field 'temporl'; did you mean temporal"),
        ({}, {"shift": "KV"}, "has no field 'shift'; "),
        ({}, {"temporal": "tsm", "width": 16}, "model.width"),
        ({}, {"temporal": "tsm", "attention": "C"}, "lacks"),
        ({}, {"temporal": "3d"}, "model.temporal|temporal"),
        ({"new_fc.weight": None, "new_fc.bias": None}, {}, "a backbone without a head"),
        ({"base_model.layer1.0.conv2.weight": None}, {"temporal": "tsn"}, "missing: "),
        ({"own": True}, {}, "without the weights.json"),
        ({"other": True}, {}, "no network that is known here; its first keys are some.key"),
        ({"attention": True}, {"temporal": "tsn", "attention": "none"}, "does not have, such as"),
    ],
)
def test_what_does_not_open_says_why(tmp_path, plain, change, given, said):
    arrays = dict(plain)
    if "own" in change:
        arrays = {"params/head/kernel": np.zeros((8, 3), np.float32)}
    elif "other" in change:
        arrays = {"some.key": np.zeros(3, np.float32)}
    elif "attention" in change:
        arrays = state_dict_of(**NARROW, attention="C")
    else:
        arrays = {key: value for key, value in plain.items() if key not in change}
    path = write(tmp_path / "net.safetensors", arrays)
    with pytest.raises(UserError, match=said) as error:
        open_file(path, given)
    assert str(path) in str(error.value) or "no field" in str(error.value)


def test_no_recipes_are_needed(tmp_path, plain, monkeypatch):
    path = write(tmp_path / "net.safetensors", plain)
    given = {"temporal": "tsm", "num_frames": 4}
    expected = open_file(path, given)
    bare = {"model": {"name": "resnet"}}
    monkeypatch.setattr(configs, "_defaults", lambda: configs.ConfigDict(bare))
    run = open_file(path, given)
    assert run.model == expected.model and "train" not in run.config
    for section in ("data", "eval"):
        for field, value in run.config[section].items():
            assert value == expected.config[section][field], field
    assert run.config.compile_cache == expected.config.compile_cache
    check(run.config)
    with pytest.raises(UserError, match=r"data\.num_frames"):
        open_file(path, {**given, "num_frames": 0})
