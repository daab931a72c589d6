"""Every recipe: its data set, its networks, its options, and what the paper reports for it."""

import importlib
import re
from pathlib import Path

import pytest

from aia_jax import config as configs
from aia_jax.errors import UserError
from aia_jax.frame_geometry import short_side
from aia_jax.models import model_from_config
from configs.networks import NETWORKS as ALL_NETWORKS
from tests.helpers.paths import ROOT

FOLDER = ROOT / "configs"
NETWORKS = {  # of the paper
    "tsn": ("tsn", "none"),
    "tsm": ("tsm", "none"),
    "aia_tsn": ("tsn", "CinST->STinC"),
    "aia_tsm": ("tsm", "CinST->STinC"),
}
# recipe and options: name and folder of the data, label, classes, expected training and test videos
DATA = {
    "ssv1": ("ssv1", "label", 174, 0, 0),
    "ssv2": ("ssv2", "label", 174, 168_913, 24_777),
    "diving48": ("diving48", "label", 48, 0, 0),
    "kinetics400": ("kinetics400", "label", 400, 0, 0),
    "egtea,split=1": ("egtea_split1", "label", 106, 8_299, 2_022),
    "egtea,split=2": ("egtea_split2", "label", 106, 0, 0),
    "egtea,split=3": ("egtea_split3", "label", 106, 0, 0),
    "epic55,label=verb": ("epic55", "verb", 125, 0, 0),
    "epic55,label=noun": ("epic55", "noun", 352, 0, 0),
    "ucf101,split=1": ("ucf101_split1", "label", 101, 9_537, 3_783),
    "ucf101,split=2": ("ucf101_split2", "label", 101, 9_586, 3_734),
    "ucf101,split=3": ("ucf101_split3", "label", 101, 9_624, 3_696),
}
OWN = {"demo", "own_videos", "own_videos_small"}  # no data set of the paper's
DEFAULT_OPTION = {"egtea": ",split=1", "epic55": ",label=verb", "ucf101": ",split=1"}
# Tables I to V of the paper: top-1 and top-5 of tsn, tsm, aia_tsn, aia_tsm, and what stands beside.
ONE_CLIP = "8 frames × 1 crop × 1 clip"
REPORTED = {
    "ssv1": ["19.7 46.6", "45.6 74.2", "48.5 77.2", "49.2 77.5"],
    "ssv2": ["30.0 60.5", "61.7 87.4", "60.3 86.4", "61.7 87.2"],
    "diving48": ["72.4 96.8", "77.6 97.7", "79.3 97.5", "79.4 97.5"],
    "egtea,split=1": ["61.6", "63.5", "63.7", "64.7"],
    "egtea,split=2": ["58.5", "62.8", "62.1", "63.3"],
    "egtea,split=3": ["55.2", "59.5", "61.5", "62.2"],
    "epic55,label=verb": ["37.4", "48.2", "49.5", "50.2"],
    "epic55,label=noun": ["23.1", "22.9", "23.5", "24.3"],
}
WHERE = {
    "ssv1": f"(Tables I and II; {ONE_CLIP})",
    "ssv2": f"(Table II; {ONE_CLIP})",
    "diving48": "(Table III; split V2; 8 frames)",
    "egtea,split=1": "(Table IV; split 1; 8 frames)",
    "egtea,split=2": "(Table IV; split 2; 8 frames)",
    "egtea,split=3": "(Table IV; split 3; 8 frames)",
    "epic55,label=verb": "(Table V; a split of the paper's own, not published; 8 frames)",
    "epic55,label=noun": "(Table V; a split of the paper's own, not published; 8 frames)",
}
# TSM stands only in Table I for V1, and only with two clips in Table II for V2.
WHERE_ELSE = {
    ("ssv1", "tsm"): f"(Table I; {ONE_CLIP})",
    ("ssv2", "tsm"): "(Table II; 8 frames × 1 crop × 2 clips)",
}
RECIPES = sorted({recipe.partition(",")[0] for recipe in DATA} | OWN)


def load(recipe: str, network: str = ""):
    """The config of a recipe ("egtea,split=2") with a network."""
    name, _, options = recipe.partition(",")
    return configs.load(f"{FOLDER}/{name}.py:{','.join(filter(None, (network, options)))}")


@pytest.mark.parametrize("recipe", DATA)
def test_a_recipe_sets_its_data_set_and_any_network(recipe):
    name, label, num_classes, train, validation = DATA[recipe]
    file, _, options = recipe.partition(",")
    module = importlib.import_module(f"configs.{file}")
    for network, row in ALL_NETWORKS.items():
        config = module.get_config(",".join(filter(None, (network, options))))
        data = config.data
        assert (data.name, data.dir, data.label) == (name, f"data/{name}", label)
        assert data.num_classes == num_classes
        assert data.expected.to_dict() == {"train": train, "validation": validation}
        # The only number that is reported for H2CN there is of 16 segments.
        frames = 16 if (recipe, network) == ("diving48", "h2cn") else 8
        assert (data.num_frames, data.crop) == (frames, 224)
        assert {key: config.model[key] for key in row.fields} == dict(row.fields)
        assert config.init_from == "" and config.is_locked


@pytest.mark.parametrize("network", ALL_NETWORKS)
def test_every_network_can_be_built(network):
    config = load("ssv2", network)
    model = model_from_config(config)
    assert model.num_classes == 174
    if network in NETWORKS:
        assert config.data.resize == (240, 320)
        assert (config.model.temporal, config.model.attention) == NETWORKS[network]
    # So that the paper's number of a table is found for a test of this network.
    if network != "gst_large":
        assert f"{model.describe()}, ".startswith(f"{ALL_NETWORKS[network].title}, ")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("recipe", DATA)
def test_a_recipe_carries_the_papers_number(recipe, network):
    if recipe not in REPORTED:
        title = ALL_NETWORKS[network].title
        assert load(recipe, network).paper == f"none for {title}"
        return
    top1, *top5 = REPORTED[recipe][list(NETWORKS).index(network)].split()
    numbers = ", ".join([f"{top1}% top-1", *(f"{number}% top-5" for number in top5)])
    where = WHERE_ELSE.get((recipe, network), WHERE[recipe])
    temporal, attention = NETWORKS[network]
    title = temporal.upper() + (f" with {attention}" if attention != "none" else "")
    assert load(recipe, network).paper == f"{numbers} {where} for {title}"


@pytest.mark.parametrize("recipe", sorted({recipe.partition(",")[0] for recipe in DATA}))
def test_what_is_left_out_is_aia_tsm_and_the_first_option(recipe):
    default = load(recipe + DEFAULT_OPTION.get(recipe, ""), "aia_tsm")
    assert configs.load(FOLDER / f"{recipe}.py") == default
    assert configs.load(f"{FOLDER}/{recipe}.py:") == default


@pytest.mark.parametrize("recipe", RECIPES)
def test_choices_name_every_network_and_option(recipe):
    choices = dict(importlib.import_module(f"configs.{recipe}").CHOICES)
    assert list(choices.pop("ways to train, beside a network")) == ["svmix", "modern"]
    *kinds, last = choices.values()
    options = {
        "egtea": ["split=1|2|3"],
        "epic55": ["label=verb|noun"],
        "ucf101": ["split=1|2|3"],
        "own_videos_small": ["size=64|96|112"],
    }.get(recipe)
    if options is None:
        kinds.append(last)
    else:
        assert list(last) == options
    lines = {name: line for kind in kinds for name, line in kind.items()}
    assert list(lines) == [*(["c"] if recipe == "demo" else []), *ALL_NETWORKS]
    for name, network in ALL_NETWORKS.items():
        assert lines[name].startswith(network.title)


@pytest.mark.parametrize(
    ("recipe", "network", "line"),
    [
        ("ssv1", "tsm", "TSM; the paper's 45.6% top-1"),
        ("ssv2", "tsm", "TSM; the paper's 61.7% (2 clips) top-1"),
        (
            "egtea",
            "tsm",
            "TSM; the paper's 63.5% (split=1), 62.8% (split=2), 59.5% (split=3) top-1",
        ),
        ("ucf101", "tsm", "TSM"),
        ("own_videos", "tsm", "TSM"),
        ("ssv1", "h2cn", "H2CN; H2CN's README 53.6%, 55.0% (16 frames) top-1"),
        ("diving48", "h2cn", "H2CN; H2CN's README 87.0% (16 frames) top-1"),
        ("kinetics400", "vit", "ViT-B/16; TokShift's README 76.02% (30 views) top-1"),
    ],
)
def test_choices_carry_the_top1_that_is_reported(recipe, network, line):
    choices = importlib.import_module(f"configs.{recipe}").CHOICES
    assert choices[ALL_NETWORKS[network].kind][network] == line


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_how_it_is_run_and_whose_the_numbers_are(recipe):
    text = importlib.import_module(f"configs.{recipe}").__doc__
    assert f"python train.py --config configs/{recipe}.py" in text
    if recipe in OWN:
        return
    assert "convert_torch_weights.py" in text and "2080 Ti" in text
    assert f"python prepare_data.py {recipe} " in text and "--size 240x320" in text
    if recipe in ("kinetics400", "ucf101"):
        assert "The paper has no numbers" in text
    if recipe != "ucf101":
        assert "not measurements of this code" in " ".join(text.split())


def test_the_known_command_is_ssv2_with_aia_tsm(capfd):
    path = FOLDER / "ssv2_aia_tsm.py"
    assert configs.load(path) == load("ssv2", "aia_tsm")
    assert configs.name(path) == configs.name(f"{FOLDER}/ssv2.py:aia_tsm") == "ssv2_aia_tsm"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UserError, match=r"ssv2_aia_tsm\.py: .*takes no argument$"):
        configs.load(f"{path}:tsn")


def test_own_videos_take_any_network_and_have_no_paper():
    config = configs.load(FOLDER / "own_videos.py")
    assert config == load("own_videos", "aia_tsm")
    assert (config.data.name, config.data.dir, config.paper) == ("own videos", "", "")
    for network, fields in NETWORKS.items():
        model = load("own_videos", network).model
        assert (model.temporal, model.attention) == fields


@pytest.mark.parametrize("size", ["64", "96", "112"])
def test_small_nets_for_own_videos_start_from_scratch_at_three_sizes(size):
    config = configs.load(f"{FOLDER}/own_videos_small.py:tsm,size={size}")
    assert (config.init_from, config.data.crop) == ("scratch", int(size))
    assert int(size) < short_side(config.data.resize)  # proportions are kept
    assert (config.model.width, config.model.temporal) == (32, "tsm")
    assert configs.load(FOLDER / "own_videos_small.py").data.crop == 64


def test_own_videos_draw_from_whole_videos_and_the_papers_recipes_do_as_the_reference():
    for recipe in RECIPES:
        sampling = configs.load(FOLDER / f"{recipe}.py").data.sampling
        assert sampling == ("uniform" if recipe.startswith("own_videos") else "reference")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("ssv2.py:nonsense", "'nonsense' tsn, tsm, aia_tsn, aia_tsm, msca_kv options: none"),
        ("ssv2.py:split=1", "option 'split' aia_tsm options: none"),
        ("egtea.py:tsm,split=9", "split '9' split=1|2|3"),
        ("egtea.py:2", "network '2' split=1|2|3"),
        ("epic55.py:label=action", "label 'action' label=verb|noun"),
        ("demo.py:d", "network 'd' c, tsn, aia_tsm,"),
    ],
)
def test_a_wrong_argument_gets_one_line_that_lists_the_right_ones(argument, words):
    with pytest.raises(UserError) as error:
        configs.load(f"{FOLDER}/{argument}")
    text = str(error.value)
    assert text.startswith(f"--config {FOLDER}/{argument}: ") and "\n" not in text
    for word in words.split():
        assert word in text, text


def test_a_recipe_elsewhere_may_use_the_table_of_networks(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs.networks import Argument\n\n"
        "def get_config(argument=''):\n"
        "    return Argument(default='tsm').parse(argument).start_config()\n"
    )
    assert configs.load(path).model.temporal == "tsm"
    assert configs.load(f"{path}:aia_tsn").model.attention == "CinST->STinC"


def test_every_recipe_that_is_named_anywhere_loads():
    texts = [ROOT / "README.md", *ROOT.glob("*.py")]
    for folder, pattern in (("docs", "*.md"), ("aia_jax", "*.py"), ("configs", "*.py")):
        texts += (ROOT / folder).rglob(pattern)
    named = set()
    for path in texts:
        text = path.read_text().replace("NETWORK", "tsm").replace("{split}", "2")
        named |= set(re.findall(r"configs/\w+\.py(?::[\w,=]+)?", text))
    named -= {
        f"configs/{module}.py" for module in ("base", "methods", "narrow", "networks", "paper")
    }
    assert {"configs/ssv2.py:aia_tsm", "configs/egtea.py:tsm,split=2"} <= named
    for recipe in named:
        configs.load(ROOT / recipe.removesuffix(":ARGUMENT"))
