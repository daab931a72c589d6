"""What a run says and writes before its first step."""

import io
import json
import sys

import pytest
from rich.console import Console
from rich.table import Table

from aia_jax import config as configs
from aia_jax import sharding
from aia_jax.errors import UserError
from aia_jax.models import model_from_config
from aia_jax.training import startup
from aia_jax.training.workdir import make_workdir
from tests.helpers.paths import ROOT


def test_the_start_table():
    config = configs.load(
        ROOT / "configs" / "ssv2.py:aia_tsn",
        [
            *("train.batch_size=8", "train.accumulate=2", "train.bn_group_size=4"),
            *("train.val_every=2", "train.best_by=mean_class_accuracy", "train.patience=3"),
            *("train.label_smoothing=0.1", "train.class_weights=effective0.99"),
            *("train.mixup=0.8", "train.cutmix=1.0", "train.mix_prob=0.5"),
        ],
    )
    table = startup.start_table(
        config,
        network=model_from_config(config).describe(),
        method="supervised",
        clip_shape=(8, 224, 224, 3),
        found={"train": 168_900, "validation": 24_777},
        classes=174,
        params=23_871_726,
        macs=32_960_035_104,
        mesh=sharding.make_mesh(config.mesh),
        steps_per_epoch=5278,
        start_step=5278,
        compile_cache="/home/a/compiled",
    )
    screen = io.StringIO()
    Console(file=screen, width=200).print(table)
    text = screen.getvalue()
    for words in (
        "ssv2 in data/ssv2",
        "train: 168,900 videos of 168,913 expected, 13 missing",
        "validation: 24,777 videos of 24,777 expected",
        "174 classes",
        "TSN with CinST->STinC, ResNet-50, float32",
        "60.3% top-1, 86.4% top-5 (Table II; 8 frames × 1 crop × 1 clip)",
        "23,871,726 parameters, 32.96 G multiply-adds a clip (8×224×224)",
        "LR × 2, decay × 0: .*/bias",
        "data 1 × fsdp 1 × time 1",
        "8 clips, 8 a device, in 2 parts; BatchNorm over groups of 4",
        "/home/a/compiled",
        "cross-entropy, label smoothing 0.1, class weights effective0.99",
        "mixup with α = 0.8 or cutmix with α = 1, in 50% of the steps",
        "sgd, momentum 0.9, weight decay 0.0001, gradient norm up to 20",
        "0.0025 (the recipe's 0.01 is for batch 32), × 0.1 after epochs 20 and 40",
        "5,278 an epoch × 50 = 263,900; validation every 2 epochs; going on after step 5,278",
        "13 missing; up to 168 may be damaged",
        "mean-class accuracy; ends early after 3 validations without a better one",
    ):
        assert words in text, (words, text)


@pytest.mark.parametrize(
    ("old_share", "steps", "told"), [(0.999, 450, "64%"), (0.98, 450, ""), (0.0, 1, "")]
)
def test_a_moving_average_that_hardly_moves_is_said(old_share, steps, told):
    config = configs.load(ROOT / "configs" / "demo.py")
    notes = startup.notes_on_plan(config, 0, 1, steps, old_share)
    assert len(notes) == bool(told)
    if told:
        assert f"at the last of 450 steps {told} of the moving average" in notes[0]


def test_names_in_the_table_are_no_markup(capsys):
    table = Table("data")
    table.add_row("[/b] in [red]")
    startup.print_table(table)
    assert "[/b] in [red]" in capsys.readouterr().out


def test_run_json_has_an_entry_a_start(tmp_path):
    config = configs.load(ROOT / "configs" / "demo.py")
    make_workdir(tmp_path / "a" / "b")
    for step in (0, 40):
        startup.save_provenance(tmp_path / "a" / "b", config, step)
    starts = json.loads((tmp_path / "a" / "b" / "run.json").read_text())["starts"]
    assert [entry["start_step"] for entry in starts] == [0, 40]
    assert configs.from_json(json.dumps(starts[1]["config"])) == config
    assert (
        starts[0]["command"] == sys.argv
        and "jax" in starts[0]["packages"]
        and starts[0]["devices"]["count"] >= 1
    )
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["run.json"]


def test_what_cannot_be_written_or_read_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--workdir {tmp_path}/file/run cannot be written"):
        make_workdir(tmp_path / "file" / "run")
    with pytest.raises(
        UserError, match=r"--workdir .* cannot be written: .*; name another with --out"
    ):
        make_workdir(tmp_path / "file" / "run", remedy="--out")
    config = configs.load(ROOT / "configs" / "demo.py")
    for content in (b"[]", b'{"starts": 5}', b"{}", b"\xff", b"[" * 100_000, b'{"starts": [1'):
        (tmp_path / "run.json").write_bytes(content)
        with pytest.raises(UserError, match=r"run\.json is not the record of a run"):
            startup.save_provenance(tmp_path, config)
