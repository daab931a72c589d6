"""A clip is whole segments, on one device and on a mesh that splits its frames."""

import pytest
from jax.sharding import AbstractMesh, AxisType, use_abstract_mesh

from aia_jax.errors import UserError
from aia_jax.models.segments import check_segments
from aia_jax.ops.frames import check_time_parts
from aia_jax.sharding import AXES


@pytest.mark.parametrize(
    ("frames", "segment_frames", "segments"), [(40, 5, 8), (5, 5, 1), (7, 1, 7)]
)
def test_segments_are_counted(frames, segment_frames, segments):
    assert check_segments(frames, segment_frames) == segments


@pytest.mark.parametrize("frames", [8, 41, 4, 0])
def test_frames_that_make_no_whole_segments_are_refused(frames):
    with pytest.raises(
        UserError, match=rf"a clip of {frames} frames: .* segments of 5 .* multiple"
    ):
        check_segments(frames, 5)


def test_a_mesh_does_not_cut_a_segment():
    mesh = AbstractMesh((1, 1, 4), AXES, (AxisType.Auto,) * 3)
    with use_abstract_mesh(mesh):
        assert check_segments(40, 5) == 8
        # 4 devices could share the 20 frames, not the 5 segments.
        with pytest.raises(
            UserError, match=r"mesh.time: 4 devices cannot share 5 segments of 4 frames"
        ):
            check_segments(20, 4)


def test_numbers_of_devices_that_fit_are_told():
    with pytest.raises(
        UserError, match=r"5 devices cannot share 8 segments .* use 1 or 2 or 4 or 8"
    ):
        check_time_parts(8, 5, 5)  # though 5 divides the clip's 40 frames
    with pytest.raises(UserError, match="3 devices cannot share 8 frames equally"):
        check_time_parts(8, 3)
