"""curves.png: what is drawn, and that it replaces an older picture whole."""

import json

import cv2
import numpy as np

from aia_jax.training.curves import draw_curves
from aia_jax.training.log import METRICS_FILE


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
    for colour in ((0xB6, 0x6F, 0x3B), (0x2B, 0x66, 0xD1)):  # BGR of training and validation
        assert (np.abs(drawn.astype(int) - colour).max(-1) < 3).sum() > 200
        assert not (np.abs(empty.astype(int) - colour).max(-1) < 3).any()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", METRICS_FILE]
