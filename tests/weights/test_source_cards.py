"""Cards of sources: a network of each can be built and tested; which card a file is given."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aia_jax import config as configs
from aia_jax.config_check import check
from aia_jax.data.view_crops import CROPS
from aia_jax.errors import UserError
from aia_jax.frame_geometry import smallest_side
from aia_jax.models import model_from_config
from aia_jax.models.torch_keys import Choice
from aia_jax.weights.about import About, StateDictFile
from aia_jax.weights.files import save_folder
from aia_jax.weights.source_cards import CARDS
from aia_jax.weights.source_choice import (
    apply_card,
    card_of_folder,
    choose_card,
    find_card,
    guess_card,
    recognise_card,
)
from tests.helpers.paths import ROOT

TSM = CARDS["mmaction2_tsm_r50_8f_k400"]
HEAD = {"fc.bias": np.zeros(400, np.float32)}
CLASSES = {"num_classes": 400}  # what an array shows of the network
RECIPES = {"resnet": "tsm", "h2cn": "h2cn", "vit": "tokshift"}


def recipe(network: str, *overrides: str):
    return configs.load(f"{ROOT / 'configs' / 'kinetics400.py'}:{network}", overrides)


def file(arrays: dict[str, np.ndarray], config_text: str | None = None) -> StateDictFile:
    return StateDictFile(arrays, About(config_text=config_text))


@pytest.mark.parametrize("name", CARDS)
def test_every_card_makes_a_config_whose_network_can_be_built_and_tested(name):
    card = CARDS[name]
    config = recipe(RECIPES[card.model["name"]])
    apply_card(card, config)
    check(config)
    model = model_from_config(config)
    assert model.num_classes == card.num_classes and model.num_frames == card.num_frames
    assert all(getattr(model, field) == v for field, v in card.model.items() if field != "name")
    for test in card.tests:
        assert test.views.crops in CROPS and test.averaging in ("logits", "probabilities")
        assert card.crop <= test.crop <= smallest_side(card.resize)
        config.eval.protocol = {1: "center", 2: "twice", 10: "dense10"}[test.views.clips]
        for number in (test.top1, test.top5):
            assert number is None or 40 < number < 100
    assert json.loads(json.dumps(card.as_json()))["tests"][0]["views"] == str(card.tests[0].views)
    assert apply_card(card, config) == []  # it has changed all there is


def test_names_and_files_are_of_one_card_each():
    assert [card.name for card in CARDS.values()] == list(CARDS)
    files = Counter(card.file for card in CARDS.values() if card.file)
    assert set(files.values()) == {1}


def test_what_a_card_changes_is_said():
    config = recipe("tsn", "data.num_frames=16")
    (note,) = apply_card(TSM, config)
    for word in ("model.temporal=tsm (recipe: tsn)", "data.num_frames=8 (recipe: 16)", "short256"):
        assert word in note
    assert "model.depth" not in note and config.data.sampling == "mmaction2"
    with pytest.raises(UserError, match="of the network resnet, and this recipe's is vit"):
        apply_card(TSM, recipe("vit"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"a = 1\nwork_dir = './work_dirs/{TSM.file}'\nb = 2\n", TSM.name),
        (f'work_dir = "/data/{TSM.file}/"\n', TSM.name),
        # A network that starts from these weights, or inherits from this config, is another one.
        (f"load_from = 'https://host/{TSM.file}_20220831.pth'\nwork_dir = './mine'\n", None),
        (f"_base_ = '{TSM.file}.py'\n", None),
        (f"work_dir = './work_dirs/{TSM.file}-finetuned'\n", None),
        ("work_dir = ''\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_folder_that_a_config_trains_into_says_which_config_it_is(text, name):
    card = recognise_card(text)
    assert (card and card.name) == name


def test_a_file_is_given_the_card_that_it_names_itself():
    text = f"work_dir = './work_dirs/{TSM.file}'\n"
    card, notes = choose_card(None, file(HEAD, text), CLASSES, Path("any.pth"))
    assert card is TSM and TSM.name in notes[0]
    # Somebody may have trained a head of other classes, or a narrow network, by the same config.
    for other in ({"num_classes": 51}, CLASSES | {"width": 8}, CLASSES | {"temporal": "tsn"}):
        assert choose_card(None, file(HEAD, text), other, Path("any.pth")) == (None, [])
    named, notes = choose_card(TSM.name, file(HEAD, text), CLASSES, Path("any.pth"))
    assert named is TSM and not notes
    with pytest.raises(UserError, match=f"config in it is that of the source {TSM.name}"):
        choose_card("mit_tsm_r50_8f_k400", file(HEAD, text), CLASSES, Path("any.pth"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{TSM.file}_20220831-64d69186.pth", TSM.name),
        ("TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth", "mit_tsm_r50_8f_k400"),
        (
            "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth",
            "mit_tsm_nl_r50_8f_k400_dense",
        ),
        ("best.pth", None),
    ],
)
def test_a_files_name_is_offered_and_not_believed(path, name):
    card = guess_card(Path("folder") / path)
    assert (card and card.name) == name
    chosen, notes = choose_card(None, file(HEAD), CLASSES, Path(path))
    assert chosen is None and (bool(notes), name is not None) in ((True, True), (False, False))
    assert all(f"--source {name}" in note for note in notes)


def test_a_source_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"did you mean mmaction2_tsm_r50_8f_k400.*aia_8f_ssv1"):
        find_card("mmaction2_tsm_r50_8_k400")
    for name, fields, words in (
        ("mit_tsm_r50_8f_ssv2", CLASSES, "num_classes 400, not 174"),
        (TSM.name, CLASSES | {"temporal": "tsn"}, "temporal tsn, not tsm"),
        (TSM.name, CLASSES | {"temporal": Choice(("tsn", "tsm"))}, "no shift in its keys"),
        (TSM.name, CLASSES | {"width": 8}, "width 8, not 64"),
        ("h2cn_8f_k400", CLASSES | {"name": "resnet"}, "the network resnet, not h2cn"),
    ):
        with pytest.raises(UserError, match=rf"x\.pth is not of the source {name}.*{words}"):
            choose_card(name, file(HEAD), fields, Path("x.pth"))

    variables = {"params": {"head": {"bias": HEAD["fc.bias"]}}}
    for content, name in (({}, None), ({"card": None}, None), ({"card": TSM.as_json()}, TSM.name)):
        save_folder(tmp_path, variables, content)
        card = card_of_folder(tmp_path)
        assert (card and card.name) == name
    for wrong in ({"name": "gone"}, {"name": 3}, "mit", ["name"]):
        save_folder(tmp_path, variables, {"card": wrong})
        with pytest.raises(UserError, match="this version has no source of that name"):
            card_of_folder(tmp_path)
