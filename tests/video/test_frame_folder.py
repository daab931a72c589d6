"""The names of a folder's pictures: pattern, order, missing numbers."""

import pytest

from aia_jax.video.frame_folder import FrameNamesError, detect_frame_names


def test_frame_names():
    names = detect_frame_names(["img_10.png", "img_9.png", "img_100.png", "x.txt"])
    assert (names.pattern, names.files, names.first) == (
        "img_%d.png",
        ("img_9.png", "img_10.png", "img_100.png"),
        9,
    )
    assert (names.gaps, names.missing) == (((11, 99),), 89)
    with pytest.raises(FrameNamesError, match=r"no frame number in the name 'cover\.jpg'"):
        detect_frame_names(["00001.jpg", "cover.jpg"])
    with pytest.raises(FrameNamesError, match="two frames of this folder have the same number"):
        detect_frame_names(["1.jpg", "01.jpg"])
