"""Recipes, overrides, and the one line that every mistake gets."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import convert_torch_weights
from aia_jax import complexity, create_model
from aia_jax import config as configs
from aia_jax.errors import UserError, exit_status
from aia_jax.training.optimizer import assign_groups, parse_groups
from tests.helpers.paths import ROOT

SSV1_TSN = ROOT / "configs" / "ssv1.py:tsn"


def flat(config, prefix=""):
    leaves = {}
    for key, value in config.to_dict().items():
        leaves |= (
            {f"{key}.{k}": v for k, v in flat(config[key]).items()}
            if isinstance(value, dict)
            else {key: value}
        )
    return leaves


def message(*arguments, **named) -> str:
    with pytest.raises(UserError) as error:
        configs.load(*arguments, **named)
    text = str(error.value)
    assert "\n" not in text and len(text) < 700
    return text


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


def test_the_papers_recipe():
    config = configs.load(ROOT / "configs" / "ssv2.py:aia_tsn")
    assert (config.optim.lr, config.optim.lr_batch_size, config.train.batch_size) == (0.01, 32, 32)
    assert (config.optim.momentum, config.optim.weight_decay, config.optim.clip_norm) == (
        0.9,
        1e-4,
        20.0,
    )
    assert (config.train.epochs, config.optim.milestones, config.optim.decay) == (50, (20, 40), 0.1)
    assert (config.data.num_frames, config.data.crop, config.data.resize) == (8, 224, (240, 320))
    assert config.data.scales == (1, 0.875, 0.75, 0.66)
    assert config.data.expected.to_dict() == {"train": 168_913, "validation": 24_777}


@pytest.mark.parametrize("attention", ["none", "CinST->STinC", "C+ST"])
def test_groups_cover_every_parameter(attention):
    model = create_model(5, width=8, stage_sizes=(1, 1), attention=attention)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 32, 32, 3)))["params"]
    groups = assign_groups(shapes, parse_groups(configs.load(SSV1_TSN).optim.groups))
    for path, group in jax.tree_util.tree_leaves_with_path(groups):
        names = [part.key for part in path]
        expected = (
            (1, 1) if names[-1] == "kernel" else (2, 0) if names == ["head", "bias"] else (1, 0)
        )
        assert (group.lr, group.decay) == expected, names


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.batch_size=8", 8),
        ("optim.lr=1e-3", 1e-3),
        ("optim.lr=1", 1.0),
        ("optim.milestones=10,30", (10, 30)),
        ("optim.milestones=(10, 30)", (10, 30)),
        ("optim.milestones=[10,30]", (10, 30)),
        ("optim.milestones=10", (10,)),
        ("optim.milestones=", ()),
        ("model.stage_sizes=1,1", (1, 1)),
        ("data.scales=1,.5", (1.0, 0.5)),
        ("log.tensorboard=false", False),
        ("log.tensorboard=0", False),
        ("log.tensorboard=True", True),
        ("init_from=a=b, c", "a=b, c"),
        ("data.expected.train=5", 5),
        ("optim.groups=(('.*', {'lr': 1}),)", ((".*", {"lr": 1}),)),
    ],
)
def test_overrides_are_read_as_the_fields_type(override, value):
    config = configs.load(SSV1_TSN, [override])
    found = config[override.partition("=")[0]]
    assert found == value and type(found) is type(value)
    if isinstance(value, tuple):
        assert [type(item) for item in found] == [type(item) for item in value]
    before = flat(configs.load(SSV1_TSN))
    assert {key for key, new in flat(config).items() if new != before[key]} <= {
        override.partition("=")[0]
    }


def test_a_shift_that_moves_nothing_gets_one_line():
    text = message(SSV1_TSN, ["model.temporal=tsm", "model.width=4"])
    assert "config key model.fold_div: 8 leaves nothing to shift in 4 channels" in text
    assert configs.load(SSV1_TSN, ["model.width=4"]).model.width == 4


def test_the_last_override_wins():
    assert configs.load(SSV1_TSN, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.batch_sise=8", "train.batch_sise did you mean train.batch_size"),
        ("trian.batch_size=8", "train.batch_size"),
        ("batch_size=8", "train.batch_size eval.batch_size"),
        ("data.num_frame=4", "data.num_frames"),
        ("zzz.yyy=4", "zzz.yyy configs/base.py"),
        ("mesh=4", "mesh section data fsdp time"),
        ("train.epochs", "--config.train.epochs=VALUE"),
        ("train.batch_size=1.5", "train.batch_size '1.5' whole number"),
        ("optim.lr=fast", "optim.lr 'fast' number"),
        ("optim.lr=nan", "optim.lr nan number"),
        ("log.tensorboard=maybe", "log.tensorboard 'maybe' true or false"),
        ("optim.milestones=20,x", "optim.milestones '20,x' 20,40"),
        ("optim.milestones=20.5", "optim.milestones 20.5 whole numbers"),
        ("optim.milestones=40,20", "optim.milestones 40,20 rising"),
        ("optim.lr=0", "optim.lr 0.0 more than 0"),
        ("optim.groups=5", "optim.groups 5 pattern"),
        ("optim.groups=(('(', {}),)", "optim.groups regular expression"),
        ("train.epochs=0", "train.epochs 0 at least 1"),
        ("train.accumulate=5", "train.batch_size 32 5 train.accumulate"),
        ("train.bn_group_size=5", "train.bn_group_size 32 groups of 5"),
        ("profile.stop=5", "profile.stop 5 profile.start=0"),
        ("train.remat=1,5", "train.remat 1,5 stages from 1 to 4"),
        ("data.flip=2", "data.flip 2.0 from 0 to 1"),
        ("data.workers=1000000", "data.workers 1000000 from 0 to 1,024"),
        ("data.sampling=even", "data.sampling 'even' reference or uniform"),
        ("train.val_every=0", "train.val_every 0 at least 1"),
        ("train.epochs=3000000000", "train.epochs 3000000000 at most 2,147,483,647"),
        ("optim.milestones=1,3000000000", "optim.milestones 1,3000000000 at most"),
        ("optim.warmup_epochs=1e300", "optim.warmup_epochs 1e+300 3.4e38"),
        ("optim.lr=1e39", "optim.lr 1e+39 3.4e38"),
        ("seed=9223372036854775808", "seed 9223372036854775808 64 bits"),
        (f"seed={'1' * 5000}", "seed 5,002 characters"),
        (f"eval.protocol={'x' * 5000}", "eval.protocol center 5,002 characters"),
        ("model.width=70000", "model.width 70000 at most 65,536"),
        ("model.stage_sizes=1,1,1,1,1,1,1,1,1", "model.stage_sizes at most 8 stages"),
        ("data.crop=256", "data.crop 256 240,320 data.resize"),
        ("data.resize=240", "data.resize 240 height, width"),
        ("data.resize=short", "data.resize 'short' such as short256"),
        ("data.resize=240x320", "data.resize '240x320' such as 240,320"),
        ("data.resize=short200", "data.crop 224 'short200'"),
        ("data.num_classes=-1", "data.num_classes -1 at least 0"),
        ("model.temporal=lstm", "model.temporal 'lstm' tsn or tsm"),
        ("model.attention=CinSTT", "model.attention 'CinSTT' CinST"),
        ("model.compute_dtype=float16", "model.compute_dtype float32 or bfloat16"),
        ("model.depth=34", "model.depth 34 50 or 101"),
        ("model.stem=big", "model.stem 'big' imagenet or small"),
        ("model.width=0", "model.width 0 at least 1"),
        ("model.fold_div=1", "model.fold_div 1 at least 2"),
        ("model.stage_sizes=1,0", "model.stage_sizes 1,0 whole numbers from 1"),
        ("model.dropout=1", "model.dropout 1.0 not including, 1"),
        ("model.name=vit", "model.name 'vit' resnet"),
        ("eval.protocol=random", "eval.protocol 'random' center"),
        ("mesh.data=0", "mesh.data 0 -1"),
        ("mesh.time=3", "mesh.time 3 8 frames use 1 or 2 or 4 or 8"),
    ],
)
def test_a_wrong_override_gets_one_line(override, words):
    text = message(SSV1_TSN, [override])
    for word in words.split():
        assert word in text, text


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


def test_the_command_line():
    joined = configs.parse(
        ["--config", str(SSV1_TSN), "--config.train.batch_size=8", "--config.mesh.data=-1"], "test"
    )
    split = configs.parse(
        ["--config.train.batch_size", "8", f"--config={SSV1_TSN}", "--config.mesh.data", "-1"],
        "test",
    )
    assert joined.config == split.config and joined.config.train.batch_size == 8
    assert joined.config_name == "ssv1_tsn" and joined.workdir == Path("runs/ssv1_tsn")

    def extra(parser):
        parser.add_argument("videos", nargs="*")
        parser.add_argument("--quick", action="store_true")

    own = configs.parse(
        ["--config", str(SSV1_TSN), "--workdir", "w", "--quick", "--", "a.mp4", "--config.x=1"],
        "test",
        extra,
    )
    assert (own.videos, own.quick, own.workdir) == (["a.mp4", "--config.x=1"], True, Path("w"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config.train.epochs"],
        ["--config.train.epochs", "--workdir", "x"],
        ["--config.train.epochs=x"],
    ],
)
def test_a_wrong_command_line_ends_with_status_2_and_one_line(arguments, capsys):
    assert exit_status(lambda: configs.parse(["--config", str(SSV1_TSN), *arguments], "test")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and "train.epochs" in error


def test_unknown_flags_end_with_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        configs.parse(["--config", str(SSV1_TSN), "--workdri", "x"], "test")
    assert stop.value.code == 2
    assert "--workdri" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [convert_torch_weights, complexity], ids=lambda command: command.__name__
)
def test_a_command_that_works_on_no_run_takes_no_workdir(command, tmp_path, capsys):
    needed = (
        []
        if command is complexity
        else ["--torch", str(tmp_path / "a.pth"), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as stop:
        command.main(["--config", str(SSV1_TSN), *needed, "--workdir", "x"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --workdir x" in capsys.readouterr().err
