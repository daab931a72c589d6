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


def numbered(*patterns: str, count: int = 3) -> list[str]:
    return [pattern % number for pattern in patterns for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("rgb", "flow"),
    [
        ("img_%05d.jpg", ("flow_x_%05d.jpg", "flow_y_%05d.jpg")),
        ("img_%05d.jpg", ("x_%05d.jpg", "y_%05d.jpg")),
        ("%06d.jpg", ("flow_%06d.jpg",)),
        ("image_%05d.jpg", ("u%05d.png", "v%05d.png")),
        ("frame%d.png", ("Flow_X_%05d.jpg",)),
    ],
)
def test_beside_optical_flow_the_rgb_frames_are_taken(rgb, flow):
    names = detect_frame_names(numbered(*flow, rgb))
    assert (names.pattern, names.files) == (rgb, tuple(numbered(rgb)))
    assert names.others.startswith(", without ")
    assert detect_frame_names(numbered(rgb)).others == ""
    assert detect_frame_names(numbered(flow[0])).pattern == flow[0], "flow alone is a video"


def test_a_pattern_chooses():
    names = numbered("img_%05d.jpg", "flow_x_%05d.jpg", "flow_y_%05d.jpg")
    for chosen in ("flow_y_*.jpg", "flow_y_%05d.jpg", "flow_y_%d.jpg"):
        assert detect_frame_names(names, chosen).files == tuple(numbered("flow_y_%05d.jpg"))
    with pytest.raises(FrameNamesError, match="no picture matches 'depth_"):
        detect_frame_names(names, "depth_*")
    with pytest.raises(FrameNamesError, match=r"--frames chooses, as --frames 'left_\*\.jpg'"):
        detect_frame_names(numbered("left_%d.jpg", "right_%d.jpg"))
    with pytest.raises(FrameNamesError, match=r"flow_x_….jpg \(3\) and flow_y_….jpg \(3\)"):
        detect_frame_names(numbered("flow_x_%05d.jpg", "flow_y_%05d.jpg"))
