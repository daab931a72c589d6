"""The command that `prepare_data.py` proposes fits the data and the machine."""

import pytest

from aia_jax.prepare import next_command
from aia_jax.prepare.next_command import has_accelerator, training_command
from tests.helpers.paths import ROOT


def propose(
    tmp_path, monkeypatch, *, videos=5000, size="240x320", cores=8, accelerator=True, **more
):
    monkeypatch.setattr(next_command, "cores", lambda: cores)
    monkeypatch.setattr(next_command, "has_accelerator", lambda: accelerator)
    train = {"found": videos, "height_x_width": {size: videos}}
    manifest = {
        "data_set": "folders",
        "options": {},
        "class_names": {"label": ["a", "b"]},
        "splits": {"train": train},
    }
    return training_command(manifest | more, tmp_path / "my data")


def test_large_data_on_a_large_machine(tmp_path, monkeypatch):
    command, advice = propose(tmp_path, monkeypatch)
    assert command == (
        "python train.py --config configs/own_videos.py --config.init_from=WEIGHTS "
        f"--config.data.dir='{tmp_path / 'my data'}'"
    )
    assert advice == ""


@pytest.mark.parametrize(
    ("videos", "batch"), [(31, 16), (16, 16), (9, 8), (3, 2), (1, 1), (32, 0), (0, 0)]
)
def test_a_batch_is_no_larger_than_the_training_split(tmp_path, monkeypatch, videos, batch):
    command, _ = propose(tmp_path, monkeypatch, videos=videos)
    assert (f"--config.train.batch_size={batch} " in command) == (batch > 0)
    assert ("batch_size" in command) == (batch > 0)


def test_workers_are_no_more_than_the_cores(tmp_path, monkeypatch):
    assert "--config.data.workers=2 " in propose(tmp_path, monkeypatch, cores=2)[0]
    assert "data.workers" not in propose(tmp_path, monkeypatch, cores=4)[0]


def test_small_data_gets_the_recipe_of_small_nets(tmp_path, monkeypatch):
    """It has batches of 16, no workers, and needs no ImageNet weights."""
    command, advice = propose(tmp_path, monkeypatch, videos=200, accelerator=False, cores=1)
    assert command.startswith("python train.py --config configs/own_videos_small.py --config.data")
    assert "configs/own_videos.py" in advice and "accelerator" in advice
    assert "own_videos.py" in propose(tmp_path, monkeypatch, videos=200)[0]
    assert "own_videos.py" in propose(tmp_path, monkeypatch, accelerator=False)[0]
    coarse, advice = propose(tmp_path, monkeypatch, size="72x96")
    assert "own_videos_small.py" in coarse and advice == ""
    few = propose(tmp_path, monkeypatch, videos=20, accelerator=False)[0]
    assert "batch_size" not in few
    assert "batch_size=8" in propose(tmp_path, monkeypatch, videos=12, accelerator=False)[0]


def test_published_sets_keep_their_recipe(tmp_path, monkeypatch):
    command, advice = propose(
        tmp_path, monkeypatch, videos=20, accelerator=False, data_set="ucf101",
        options={"--split": 2},
    )  # fmt: skip
    assert command.startswith(
        "python train.py --config configs/ucf101.py:tsn,split=2 --config.init"
    )
    assert "batch_size=16" in command and advice == ""


def test_the_proposed_recipes_exist():
    for recipe in (next_command._OWN_VIDEOS, next_command._OWN_VIDEOS_SMALL):
        assert (ROOT / recipe).is_file()


def test_accelerators_are_found_by_their_devices(tmp_path):
    (tmp_path / "null").touch()
    assert not has_accelerator(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_accelerator(tmp_path)
    assert not has_accelerator(tmp_path / "nowhere")
