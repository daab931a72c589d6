"""Recipe files: how they are found and run, and the one line that a wrong one gets."""

import pytest

from aia_jax import config as configs
from aia_jax.errors import UserError
from tests.helpers.config_errors import message
from tests.helpers.paths import ROOT

SSV1_TSN = ROOT / "configs" / "ssv1.py:tsn"


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe with the given lines in get_config and returns its path."""

    def write(*lines, argument=""):
        body = "".join(f"    {line}\n" for line in lines)
        path = tmp_path / "mine.py"
        head = f"from configs import base\n\ndef get_config({argument}):\n"
        path.write_text(f"{head}    config = base.get_config()\n{body}    return config\n")
        return path

    return write


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("config.data.dri = 'x'", "line 5 'dri' data.dir"),
        ("config.dta.dir = 'x'", "line 5 'dta' data"),
        ("config['train']['epoch'] = 3", "line 5 'epoch' train.epochs"),
        ("config.train.epochs = 1.5", "line 5 epochs 1.5 int"),
        ("config.train.epochs = True", "train.epochs True whole number"),
        ("config.optim.milestones = (1.5,)", "optim.milestones (1.5,) whole numbers"),
        ("config.optim.lr = ", "line 5 invalid syntax"),
        ("nothing()", "line 5 NameError 'nothing'"),
        ("import no_such_module", "line 5 ModuleNotFoundError no_such_module"),
        ("config.unlock(); config.data.extra = 3", "data.extra"),
        ("config.data.expected = {'train': 3}", "lacks data.expected.validation"),
        ("config = {}", "get_config() dict ConfigDict"),
        ("config.data.flip = -1.0", "data.flip -1.0"),
        ("import sys; sys.exit(0)", "ends the program sys.exit(0)"),
        ("quit('bye')", "ends the program 'bye'"),
        ("raise BaseException('odd')", "line 5 BaseException odd"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "line 5 E"),
        ("config.unlock(); config.data.more = config", "RecursionError"),
        ("config.unlock(); config.data[5] = 3", "TypeError"),
        ("config.seed = 10**5000", "seed type int 64 bits"),
        ("config.seed = 2**63", "seed 9223372036854775808 64 bits"),
        ("config.seed = -1", "seed -1 at least 0"),
        ("config.optim.lr = 10**400", "line 5 OverflowError"),
        ("config.data.dir = 'a\\0b'", "data.dir zero bytes"),
        ("config.data.name = '\\ud800'", "data.name half characters"),
        ("config.optim.groups = (('.*', {'lr': float('inf')}),)", "optim.groups inf"),
        ("config.optim.groups = (('.*', {'lr': 10**400}),)", "optim.groups factor"),
        ("config.optim.groups = (('(' * 5000, {}),)", "optim.groups regular expression"),
    ],
)
def test_a_wrong_recipe_gets_one_line_with_file_and_line(recipe, line, words):
    path = recipe(line)
    text = message(path)
    for word in words.split():
        assert word in text, text
    if "line" in words.split():
        assert str(path) in text


def test_a_missing_or_foreign_file_gets_one_line(tmp_path):
    assert "did you mean" in message(ROOT / "configs" / "ssv3.py")
    known = message(ROOT / "configs" / "nothing.py")
    assert "ssv1.py, ssv2.py" in known
    assert not any(other in known for other in ("base.py", "networks.py", "paper.py", "__init__"))
    assert "does not exist" in message(tmp_path / "x.py")
    assert "Python file" in message(ROOT / "configs")
    (tmp_path / "empty.py").write_text("")
    assert "no get_config()" in message(tmp_path / "empty.py")
    (tmp_path / "binary.py").write_bytes(b"\0\xff")
    assert "binary.py" in message(tmp_path / "binary.py")


def test_a_recipe_is_found_from_any_directory_and_may_take_an_argument(
    recipe, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = recipe("config.seed = int(split)", argument="split")
    config = configs.load(f"{path}:3")
    assert config.seed == 3
    with pytest.raises(KeyError):
        config["new"] = 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("configs/demo.py", "demo"),
        ("configs/ssv2.py:aia_tsm", "ssv2_aia_tsm"),
        ("configs/egtea.py:tsm,split=2", "egtea_tsm_split2"),
        ("my recipe-2.py: B/16, size=(1,2)", "my recipe-2_B_16_size_1_2"),
        ("mine.py:", "mine"),
    ],
)
def test_a_configs_name_is_its_file_and_the_words_of_its_argument(path, expected):
    assert configs.name(path) == expected


def test_get_config_is_called_with_the_arguments_that_it_takes(recipe):
    assert "takes no argument" in message(f"{recipe()}:3")
    path = recipe(argument="split")
    path.write_text(path.read_text() + "\nCHOICES = {'1': 'first', '2': 'second'}\n")
    text = message(path)
    assert "needs an argument" in text and f"{path}:ARGUMENT with one of 1, 2" in text


def test_a_wrong_argument_gets_one_line(recipe):
    path = recipe("raise ValueError(f'there is no split {split}: 1 or 2')", argument="split")
    assert message(f"{path}:3").endswith("line 5: ValueError: there is no split 3: 1 or 2")


@pytest.mark.parametrize("flags", [["--help", "--config"], ["-h", "--config"]])
def test_help_beside_a_recipe_shows_what_it_is_and_its_arguments(recipe, flags, capsys):
    path = recipe(argument="split")
    choices = "CHOICES = {'1': 'first split', 'two': 'second 50%'}"
    path.write_text(
        f'"""Videos of mine.\n\n    python train.py\n"""\n{choices}\n{path.read_text()}'
    )
    with pytest.raises(SystemExit) as stop:
        configs.parse([*flags, f"{path}:two"], "Trains.")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"{path}: Videos of mine.\n\n    python train.py\n" in text
    assert text.endswith(f"arguments, as in {path}:1\n  1    first split\n  two  second 50%\n")


def test_help_beside_no_recipe_or_a_broken_one(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        configs.parse(["--help"], "Trains.")
    assert stop.value.code == 0
    assert capsys.readouterr().out.endswith("configs/base.py has them all.\n")
    with pytest.raises(UserError, match="does not exist"):
        configs.parse(["--config", str(tmp_path / "no.py"), "--help"], "Trains.")
