"""Recipes, overrides, and the one line that every mistake gets."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import convert_torch_weights
from aia_jax import complexity, create_model
from aia_jax import config as configs
from aia_jax.data.sampling import is_sampling
from aia_jax.errors import exit_status
from aia_jax.models.resnet.modeling import ResNet
from aia_jax.training.parameter_groups import assign_groups, parse_groups
from tests.helpers.config_errors import message
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
        ("data.sampling=dense", "data.sampling 'dense' denseN such as dense32"),
        ("data.sampling=dense0", "data.sampling 'dense0' denseN"),
        ("data.short_side=224", "data.short_side 224 two whole numbers"),
        ("data.short_side=329,224", "data.short_side 329,224 the least and the greatest"),
        ("data.short_side=200,329", "data.short_side 200,329 below 224 data.crop"),
        ("data.resized_crop=0,1", "data.resized_crop 0.0,1.0 two shares above 0"),
        ("data.color_jitter=0.4", "data.color_jitter 0.4 four numbers hue from 0 to 0.5"),
        ("data.color_jitter=0.4,0.4,0.4,0.6", "data.color_jitter hue from 0 to 0.5"),
        ("data.randaugment=-1", "data.randaugment -1 from 0 to 20"),
        ("data.randaugment_magnitude=11", "data.randaugment_magnitude 11.0 from 0 to 10"),
        ("data.randaugment_prob=1.5", "data.randaugment_prob 1.5 from 0 to 1"),
        ("data.erase=25", "data.erase 25.0 from 0 to 1"),
        ("train.val_every=0", "train.val_every 0 at least 1"),
        ("train.epochs=3000000000", "train.epochs 3000000000 at most 2,147,483,647"),
        ("optim.schedule=linear", "optim.schedule 'linear' steps or cosine"),
        ("optim.schedule=cosine", "optim.milestones 20,40 --config.optim.milestones="),
        ("optim.final_lr=0.1", "optim.final_lr 0.1 optim.schedule=steps set 0"),
        ("optim.layer_decay=0", "optim.layer_decay 0.0 above 0 up to 1"),
        ("optim.betas=0.9", "optim.betas 0.9 two numbers"),
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
        ("model.name=vgg", "model.name 'vgg' resnet"),
        ("eval.protocol=random", "eval.protocol 'random' center"),
        ("train.mixup=1e-38", "train.mixup 1e-38 0 1e-6"),
        ("train.cutmix=-1", "train.cutmix -1 0 1e-6"),
        ("mesh.data=0", "mesh.data 0 -1"),
        ("mesh.time=3", "mesh.time 3 8 frames use 1 or 2 or 4 or 8"),
    ],
)
def test_a_wrong_override_gets_one_line(override, words):
    text = message(SSV1_TSN, [override])
    for word in words.split():
        assert word in text, text


def test_a_cuboid_of_one_frame_gets_one_line():
    text = message(SSV1_TSN, ["data.num_frames=1", "train.videomix=1"])
    assert "train.videomix: found 1" in text and "one frame" in text and "train.cutmix" in text


def test_a_config_takes_every_rule_by_which_frames_are_chosen():
    for sampling in ("reference", "uniform", "shared", "dense1", "dense32", "dense12345"):
        assert is_sampling(sampling)
        assert configs.load(SSV1_TSN, [f"data.sampling={sampling}"]).data.sampling == sampling
    for wrong in ("denseN", "dense123456", "Dense32", "uniform ", "dense32 "):
        assert not is_sampling(wrong)
        assert "data.sampling" in message(SSV1_TSN, [f"data.sampling={wrong}"])


def test_a_short_side_is_two_numbers_or_none():
    assert configs.load(SSV1_TSN, []).data.short_side == ()
    assert configs.load(SSV1_TSN, ["data.short_side=224,329"]).data.short_side == (224, 329)


def test_a_mesh_that_cuts_segments_gets_one_line(monkeypatch):
    monkeypatch.setattr(ResNet, "segment_frames", 5)
    assert configs.load(SSV1_TSN, ["mesh.time=4"]).mesh.time == 4
    text = message(SSV1_TSN, ["mesh.time=5"])  # though 5 divides the 40 frames of a clip
    assert "mesh.time: 5 devices cannot share 8 segments of 5 frames" in text
    assert "use 1 or 2 or 4 or 8" in text


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
