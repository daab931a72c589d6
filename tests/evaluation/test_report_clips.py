"""The frames of a report and its maps: from the run's data and weights, or a note says why not."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from aia_jax.checkpoints.trained_run import open_run
from aia_jax.data.sampling import frame_indices
from aia_jax.evaluation.report import clips
from aia_jax.evaluation.report.clips import make_strips
from aia_jax.evaluation.report.models import make_models
from aia_jax.evaluation.report.page import write_report
from aia_jax.shards.frames import read_pictures
from aia_jax.shards.reader import open_split
from tests.helpers.tiny_checkpoint import make_run
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_report import scores_of
from tests.helpers.tiny_run import make_recipe

STEP = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Scores of two runs on the same data, by the path of their file in the run's folder."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = make_recipe(folder)
    classes = ("moving left", "moving right", "standing")
    found = {}
    for number, temporal in enumerate(("tsn", "tsm")):
        make_run(folder / temporal, recipe, [f"model.temporal={temporal}"], classes, {}, STEP)
        run = open_run(folder / temporal)
        found[str(folder / temporal / "scores" / "a.npz")] = scores_of(
            run.data_dir,
            number,
            frames=4,
            crop_size=12,
            step=STEP,
            network=temporal,
            weights=run.weights_fingerprint(),
        )
    return found


def strips(files, rows=(0, 1), mapped=(0,), data=None):
    return make_strips(make_models(files)[0], rows, mapped, data)


def changed(files, number, **fields):
    """The files with other fields of what the scores of one say of themselves."""
    path, scores = list(files.items())[number]
    return files | {
        path: dataclasses.replace(scores, about=dataclasses.replace(scores.about, **fields))
    }


def data_of(files):
    """The prepared data of the runs."""
    return open_run(Path(next(iter(files))).parent.parent).data_dir


def test_frames_and_maps_are_the_clip_that_was_tested(files):
    found, notes = strips(files)
    assert not notes and list(found) == [0, 1]
    assert list(found[0].maps) == [0, 1] and not found[1].maps
    for strip in found.values():
        assert [picture.shape for picture in strip.pictures] == [(12, 12, 3)] * 4
    for row in found[0].maps.values():
        assert [picture.shape for picture in row] == [(12, 12, 3)] * 4
        differences = [
            np.abs(one.astype(int) - other).mean()
            for one, other in zip(row, found[0].pictures, strict=True)
        ]
        assert min(differences) > 5  # a map lies over each frame
    assert any((a != b).any() for a, b in zip(*found[0].maps.values(), strict=True))


def test_frames_of_a_folder_that_is_named_are_shown_without_runs(files):
    reader = open_split(data_of(files), "validation")
    loose = {f"{number}.npz": scores for number, scores in enumerate(files.values())}
    found, notes = strips(loose, data=data_of(files))
    assert len(notes) == 2 and all("does not lie in the folder of its run" in one for one in notes)
    scores = next(iter(files.values()))
    count = int(reader.index.num_frames[1])
    record = [reader.index.video_id(k) for k in range(len(reader))].index(scores.ids[1])
    expected = read_pictures(reader, record, frame_indices(count, 8, "center")[0].tolist())
    assert all((a == b).all() for a, b in zip(found[1].pictures, expected, strict=True))
    assert not found[0].maps


def test_data_that_a_test_took_instead_of_the_runs_are_shown(files, tmp_path):
    other = make_dataset(tmp_path / "other", 2, frames=6, size=(16, 16), seed=1)
    fields = ("frames", "crop_size", "step", "network", "weights")
    path, scores = next(iter(files.items()))
    about = {name: getattr(scores.about, name) for name in fields}
    overrides = ("data.dir=elsewhere", f"data.dir={other}", "optim.lr=0.1")
    tested = scores_of(other, **about, overrides=overrides)
    found, notes = strips({path: tested}, mapped=())
    assert not notes and found[0].pictures[0].shape == (12, 12, 3)


def test_other_data_are_not_shown(files, tmp_path):
    other = make_dataset(tmp_path / "other", 3, frames=6, size=(16, 16), seed=1)
    found, notes = strips(files, data=other)
    assert not found and f"{other} holds other data" in notes[-1]
    found, notes = strips(files, data=tmp_path / "nothing")
    assert not found and "the frames are not shown" in notes[-1]


def test_other_weights_and_data_that_were_prepared_in_another_way_get_no_map(files):
    found, notes = strips(changed(changed(files, 0, weights="0" * 16), 1, data="0" * 16))
    assert len(found) == 2 and not found[0].maps
    assert notes[0].startswith("no Grad-CAM of A: ") and "has other weights" in notes[0]
    assert notes[1].startswith("no Grad-CAM of B: ") and "prepared in another way" in notes[1]


def test_a_run_that_cannot_be_opened_is_said(files):
    found, notes = strips(changed(changed(files, 0, step=7), 1, step=None), data=data_of(files))
    assert len(found) == 2 and not found[0].maps
    assert notes[0].startswith("A: its run cannot be opened: ") and f"steps {STEP}" in notes[0]
    assert notes[1].startswith("B: its weights are no run")


def test_a_damaged_record_is_a_note(files, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(data_of(files), data)
    reader = open_split(data, "validation")
    offset = int(reader.index.frame_offset[reader.index.first_frame[0]])
    shard = data / reader.index.shard_and_number(0)[0]
    content = bytearray(shard.read_bytes())
    content[offset + 40] ^= 255
    shard.write_bytes(content)
    monkeypatch.setattr(clips, "open_split", lambda *_: reader)  # was opened before the damage
    found, notes = strips(files, rows=range(9), mapped=(), data=data)
    assert len(found) == 8 and len(notes) == 1 and reader.index.video_id(0) in notes[0]


def test_the_page_shows_strips_and_maps_with_their_texts(files, tmp_path):
    path = tmp_path / "report.html"
    write_report(files, path, strips=3, gradcam=1)
    page = path.read_text()
    models, _ = make_models(files)
    assert page.count("frames of validation_") >= 3  # the texts of the images
    assert page.count('alt="Grad-CAM of ') == 2
    assert "Grad-CAM of <span" in page and models[0].name in page
    write_report(files, path, strips=3, gradcam=0)
    assert "Grad-CAM" not in path.read_text()
