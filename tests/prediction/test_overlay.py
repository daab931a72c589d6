"""The overlay: its frames, its panel, and the fonts of its letters."""

import av
import numpy as np
import pytest

from aia_jax.errors import UserError
from aia_jax.prediction import fonts, overlay
from aia_jax.prediction.predict import Prediction
from tests.helpers.raw_videos import numbered_frames, write_video


@pytest.mark.parametrize(("height", "width"), [(24, 32), (200, 90), (900, 1700)])
@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_an_overlay_shows_the_video_of_any_shape(tmp_path, height, width, name):
    source = write_video(tmp_path / "in.mp4", numbered_frames(4, height, width), fps=30)
    zeros = np.zeros(3, np.float32)
    prediction = Prediction(source, zeros, 4, (0, 2), 30.0, 0.0, zeros)
    classes = [("an $odd_ näme", 0.75), ("so long that it is cut " * 9, 0.25), ("nothing", 0.0)]
    overlay.write_overlay(tmp_path / name, prediction, classes)
    with av.open(str(tmp_path / name)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # 30 frames a second are too many for a GIF.
    assert len(shown) == (2 if name.endswith("gif") else 4)
    middle = shown[-1].shape[1] // 2
    # The picture brightens; the panel stays.
    assert shown[-1][10, middle].mean() > shown[0][10, middle].mean() + 20
    assert np.abs(shown[0][-40:].astype(int) - shown[-1][-40:]).mean() < 3


def test_the_top_bar_is_as_long_as_its_probability():
    panel = overlay.draw_panel(640, "a.mp4", "8 of 9 frames seen", [("up", 0.75), ("down", 0.25)])
    bar = (np.abs(panel.astype(int) - (255, 176, 59)).sum(-1) < 30).any(0)
    np.testing.assert_allclose(np.flatnonzero(bar)[[0, -1]], [20, 20 + 0.75 * 600], atol=2)


def test_an_overlay_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        overlay.check_overlay(tmp_path / "a.mp4", [tmp_path / "v.mp4"])


# In a font that comes with matplotlib, but not in its usual one; and in no font at all.
STIX_ONLY, IN_NO_FONT = "\u1d81", "\U0010fffe"


def test_letters_come_from_the_font_that_has_them():
    assert fonts.find_fonts("walking größe") == ([fonts.DEFAULT_FONT], "")
    families, missing = fonts.find_fonts(f"a{STIX_ONLY}{IN_NO_FONT}")
    assert families[0] == fonts.DEFAULT_FONT and len(families) == 2 and missing == IN_NO_FONT
    assert not any("last" in family.lower() for family in families)


def test_no_warning_for_each_character_without_a_font(recwarn):
    overlay.draw_panel(640, "a.mp4", "8 of 9", [("東京", 0.5), ("\udcff", 0.2)])
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
