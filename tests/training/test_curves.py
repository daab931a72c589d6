"""curves.png: what is drawn, and that it replaces an older picture whole."""

import json

import cv2
import numpy as np

from aia_jax.training.curves import _average_neighbours, draw_curves
from aia_jax.training.metrics_file import METRICS_FILE


def test_curves(tmp_path):
    path, picture = tmp_path / METRICS_FILE, tmp_path / "curves.png"
    draw_curves(path, picture)
    empty = cv2.imread(str(picture))
    rows = [
        {"step": step, "split": "train", "loss": 9 / step, "top1": step / 5000, "lr": 0.1}
        for step in range(1, 3000)
    ]
    rows[1000]["loss"] = None
    rows += [
        {"step": step, "split": "validation", "loss": 0.5, "top1": 0.3} for step in (1000, 2000)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(path, picture)
    drawn = cv2.imread(str(picture))
    assert drawn.shape == empty.shape and drawn.shape[1] >= 1000
    with path.open("a") as file:
        for step in (1000, 2000):
            row = {"step": step, "split": "validation", "mean_class_accuracy": 0.2, "map": None}
            file.write(json.dumps(row) + "\n")
    draw_curves(path, tmp_path / "more.png")
    assert (cv2.imread(str(tmp_path / "more.png")) != drawn).any()
    (tmp_path / "more.png").unlink()
    for colour in ((0xB6, 0x6F, 0x3B), (0x2B, 0x66, 0xD1)):  # BGR of training and validation
        assert (np.abs(drawn.astype(int) - colour).max(-1) < 3).sum() > 200
        assert not (np.abs(empty.astype(int) - colour).max(-1) < 3).any()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", METRICS_FILE]


def test_a_row_of_one_step_at_an_epochs_end_is_no_point_of_its_own():
    """Rows of 20 steps, and of what is left when an epoch of 41 ends; one batch has a high loss."""
    steps = [20, 40, 41, 60, 80, 82]
    counts = [20, 20, 1, 19, 20, 2]
    values = [1.0, 1.0, 9.0, 1.0, 1.0, 9.0]
    points, means = _average_neighbours(steps, values, counts)
    assert points == [20, 40, 60, 82]
    np.testing.assert_allclose(means, [1, 1, (9 + 19) / 20, (20 + 18) / 22])
    assert _average_neighbours([], [], []) == ([], [])


def test_many_rows_are_drawn_as_at_most_300_points():
    steps = list(range(4, 40_001, 4))
    points, means = _average_neighbours(steps, [float(step) for step in steps], [4] * len(steps))
    assert len(points) <= 300 and points[-1] == 40_000
    np.testing.assert_allclose(np.diff(points)[:-1], points[0])
    np.testing.assert_allclose(means[0], np.mean(steps[: points[0] // 4]))


def test_numbers_that_no_picture_has_room_for_leave_gaps(tmp_path):
    losses = (1.0, 1e308, -1e308, 10**300, 2.0)
    rows = [{"step": k, "split": "train", "loss": loss, "lr": 0.1} for k, loss in enumerate(losses)]
    path = tmp_path / METRICS_FILE
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()
