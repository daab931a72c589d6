"""`data.resize`: two sides, or a short one with kept proportions, rounded as the reference does."""

import json

import pytest

from aia_jax import config as configs
from aia_jax.checkpoints.run_config import config_to_test
from aia_jax.frame_geometry import geometry, is_at_size, resize_text, short_side, smallest_side
from tests.helpers.paths import GOLDEN

CROPS = json.loads((GOLDEN / "aia_eval_crops.json").read_text())
RESIZES = {key.removeprefix("resize "): size for key, size in CROPS.items() if "resize" in key}


@pytest.mark.parametrize("key", RESIZES)
def test_golden_sizes(key):
    resize, frame = key.split("|")
    width, height = map(int, frame.split("x"))
    resize = (240, 320) if resize == "(240,320)" else f"short{resize}"
    assert [*reversed(geometry(height, width, resize))] == RESIZES[key]


def test_a_frame_of_the_right_short_side_stays_as_it_is():
    assert is_at_size(256, 455, "short256") and is_at_size(457, 256, "short256")
    assert not is_at_size(240, 455, "short256") and not is_at_size(320, 240, (240, 320))
    assert geometry(7, 9, None) == geometry(7, 9, ()) == (7, 9)


def test_words_and_sides():
    assert [resize_text(one) for one in ((240, 320), "short256", (), None)] == [
        *("240x320", "short256", "", "")
    ]
    assert (smallest_side((320, 240)), smallest_side("short256")) == (240, 256)
    for text in ("short", "short0", "short-1", "short 256", "240x320", "256", (240, 320), None):
        assert short_side(text) is None


def test_a_resize_is_two_sides_or_a_short_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import base\n\ndef get_config():\n    config = base.get_config()\n"
        "    config.data.resize = 'short256'\n    return config\n"
    )
    config = configs.load(path)
    assert config.data.resize == "short256" and configs.from_json(configs.to_json(config)) == config
    assert configs.load(path, ["data.resize=300,400"]).data.resize == (300, 400)
    assert configs.load(path, ["data.resize=300,400", "data.resize=short300"]).data.resize == (
        "short300"
    )
    saved = configs.from_json(configs.to_json(config))
    changed = config_to_test(saved, ["data.resize=240,320"])[1]
    assert changed == {"data.resize": ("short256", (240, 320))}
