"""What pages name exists: tests, figures as their code draws them, every network."""

import ast
import re
import shlex

import pytest

from aia_jax import config as configs
from aia_jax.models import NETWORKS
from aia_jax.models.attention import MODULES
from docs.figures.__main__ import FIGURES, FOLDER
from tests.helpers.paths import ROOT


def test_every_kind_of_fault_has_its_test():
    page = (ROOT / "docs/reliability.md").read_text()
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page)
    assert len(named) > 60
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not name or name in functions, f"{path} has no {name}"


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_as_their_code_draws_them(name):
    drawn = FIGURES[name]()
    assert (FOLDER / f"{name}.svg").read_text() == drawn, "run python -m docs.figures"


def test_the_page_of_networks_shows_every_figure_and_names_every_network_and_module():
    page = (ROOT / "docs/models.md").read_text()
    assert set(re.findall(r"\(figures/(\w+)\.svg\)", page)) == set(FIGURES)
    named = {"resnet": "TSN", "h2cn": "H2CN", "vit": "ViT", "gst": "GST", "c3d": "C3D"}
    assert set(named) == set(NETWORKS)
    for name in (*named.values(), *MODULES):
        assert name in page, f"docs/models.md does not name {name}"


def test_the_page_of_ways_to_train_has_commands_and_fields_that_are_taken():
    page = (ROOT / "docs/training.md").read_text()
    commands = re.findall(r"^    python train\.py (.*)$", page, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        parsed = configs.parse(["--config", *shlex.split(command)[1:]], "Trains.")
        assert parsed.config_path in command
    fields = re.findall(r"`((?:data|train|optim)\.\w+)=([^`]+)`", page)
    assert {"train.mixup", "data.randaugment", "optim.schedule"} & dict(fields).keys()
    cosine = ("optim.milestones=",)
    for key, value in fields:
        assert configs.load(ROOT / "configs/base.py", [*cosine, f"{key}={value}"])
