"""Film strips: the map over a picture, the file, labels in any script."""

import numpy as np
from matplotlib.image import imread

from aia_jax.evaluation.film_strip import Row, draw_film_strip, paint


def test_a_map_turns_a_picture_red_where_it_is_large_and_blue_where_it_is_small():
    picture = np.full((40, 60, 3), 128, np.uint8)
    heat = np.zeros((4, 6))
    heat[:, 3:] = 1
    painted = paint(picture, heat).astype(int)
    assert painted.shape == picture.shape
    assert painted[20, -1].argmax() == 0 and painted[20, 0].argmax() == 2
    assert painted[20, -1, 0] - painted[20, -1, 1] > 50  # red, not brown
    brighter = paint(np.full_like(picture, 228), heat).astype(int)
    assert (brighter - painted == 50).all()  # half of the picture shows through


def test_a_strip_is_written_with_its_pictures_in_rows(tmp_path):
    pictures = [np.full((30, 40, 3), level, np.uint8) for level in (40, 120, 200)]
    red = [np.full((30, 40, 3), (230, 20, 20), np.uint8)] * 3
    path = tmp_path / "strip.png"
    draw_film_strip(path, "A title", [Row("frames", pictures), Row("a $long$ label " * 5, red)])
    strip = (imread(path)[..., :3] * 255).round().astype(int)
    for level in (40, 120, 200):
        assert ((strip == level).all(-1)).sum() > 20_000
    assert ((strip == (230, 20, 20)).all(-1)).sum() > 60_000
    assert [one.name for one in tmp_path.iterdir()] == ["strip.png"]


def test_letters_that_no_font_has_do_not_stop_a_strip(tmp_path, recwarn):
    row = Row("把某物推到右边 \U0001fae8", [np.zeros((8, 8, 3), np.uint8)])
    missing = draw_film_strip(tmp_path / "strip.png", "A title", [row])
    assert (tmp_path / "strip.png").exists() and not recwarn.list
    assert set(missing) <= set(row.label)


def test_a_label_stays_left_of_the_pictures(tmp_path):
    black = [np.zeros((8, 8, 3), np.uint8)] * 8
    for label in ("w" * 60, "long " * 20, "推" * 40):
        draw_film_strip(tmp_path / "strip.png", "", [Row(label, black)])
        strip = imread(tmp_path / "strip.png")[..., :3]
        assert (strip[45:190, 192:340] == 0).all() and (strip[45:190, :180] < 0.5).any()
