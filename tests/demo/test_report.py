"""The comparison picture: its size, what moves its pixels, replacement in one move."""

import math

import numpy as np
import pytest
from matplotlib.image import imread

from aia_jax.demo.panels import Curve, Level, ModelResult
from aia_jax.demo.report import Strip, write_report

LEVELS = (Level("chance 25%", 0.25), Level("ceiling 90%", 0.9))


def model(name, top1, evaluated=100):
    return ModelResult(
        name,
        top1,
        evaluated,
        Curve([10, 20, 30], [2.0, 1.5, 1.0]),
        Curve([15, 30], [top1 / 2, top1]),
    )


def strip(name="a class", frames=8, size=(36, 48), level=200):
    return Strip(name, np.full((frames, *size, 3), level, np.uint8))


def draw(path, **changes):
    options = {
        "title": "Title",
        "summary": "What this shows.",
        "models": [model("one", 0.4), model("two", 0.95)],
    }
    write_report(path, **options | changes)
    return imread(path)[..., :3]


def test_picture_is_1600_wide_and_grows_with_its_strips(tmp_path):
    without = draw(tmp_path / "a.png")
    one_row = draw(tmp_path / "b.png", strips=[[strip(), strip()], [strip()]])
    two_rows = draw(tmp_path / "c.png", strips=[[strip(), strip()], [strip()], [strip(frames=16)]])
    assert {picture.shape[1] for picture in (without, one_row, two_rows)} == {1600}
    assert without.shape[0] < one_row.shape[0] < two_rows.shape[0]


def test_strips_show_their_frames(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.zeros((8, 36, 36, 3), np.uint8)
    frames[:] = rng.permutation([30 * k for k in range(8)])[:, None, None, None] * np.array(
        [1, 0, 1], np.uint8
    )
    picture = (
        (draw(tmp_path / "a.png", strips=[[Strip("violet", frames)]]) * 255).round().astype(int)
    )
    for colour in frames[:, 0, 0]:
        assert (np.abs(picture - colour).max(-1) <= 1).sum() > 2000, f"no frame of colour {colour}"


def test_picture_shows_accuracies_curves_and_levels(tmp_path):
    base = draw(tmp_path / "a.png")
    longer = model("two", 0.95)
    others = {
        "top1": {"models": [model("one", 0.4), model("two", 0.5)]},
        "curve": {
            "models": [
                model("one", 0.4),
                ModelResult("two", 0.95, 100, Curve([10, 20], [2.0, 0.1]), longer.accuracy),
            ]
        },
        "accuracy levels": {"accuracy_levels": LEVELS},
        "loss levels": {"loss_levels": [Level("ln 4", math.log(4))]},
        "title": {"title": "Another"},
    }
    for name, change in others.items():
        assert np.abs(draw(tmp_path / "b.png", **change) - base).sum() > 50, name


def test_a_levels_name_stands_beside_the_axes_where_no_curve_is(tmp_path):
    base = draw(tmp_path / "a.png")
    changed = np.abs(
        draw(tmp_path / "b.png", loss_levels=[Level("blind to time: ln 2", math.log(2))]) - base
    ).max(-1)
    axes = slice(72, 432)  # pixels; the panel of the loss
    rows = np.flatnonzero(changed[:, axes].any(1))
    assert np.ptp(rows) <= 3  # inside, nothing but the dashed line
    name = np.flatnonzero(changed[:, axes.stop + 4 : 540].any(1))
    assert name.min() < rows.min() and rows.max() < name.max() and np.ptp(name) > 20
    assert not changed[:, 540:].any()


def test_names_of_levels_that_lie_close_together_do_not_overlap(tmp_path):
    levels = [Level(f"level {percent}%", percent / 100) for percent in (50, 52)]
    base = draw(tmp_path / "a.png")
    rows = [
        np.flatnonzero(np.abs(draw(tmp_path / "b.png", **options) - base)[:, 960:1010].any((1, 2)))
        for options in ({"accuracy_levels": levels[:1]}, {"accuracy_levels": levels})
    ]
    assert np.ptp(rows[1]) > 1.8 * np.ptp(rows[0])


def test_gaps_no_curves_many_models_and_long_names_are_drawn(tmp_path):
    empty = ModelResult(
        "a rather long name of a model", 0.0, 7, Curve([], []), Curve([5, 10], [math.nan, 1.0])
    )
    picture = draw(
        tmp_path / "a.png",
        models=[empty, *(model(f"model {k}", k / 10, 100 + k) for k in range(9))],
        strips=[
            [
                strip(
                    "a class name that is far too long for one line of this picture",
                    frames=16,
                    size=(24, 48),
                )
            ]
        ],
        accuracy_levels=LEVELS,
        small_print=["python train.py " + "--config.some.key=value " * 30, "second line"],
    )
    assert picture.shape[1] == 1600


def test_report_without_models_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one model"):
        draw(tmp_path / "a.png", models=[])


def test_same_input_same_bytes_and_no_other_file_left(tmp_path):
    draw(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    draw(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
