"""Segments of consecutive frames: how the frames of a clip belong together.

A network whose class says `segment_frames = S` takes clips [B, T·S, H, W, 3]. They hold the S
frames of the first segment, then those of the second, and so on. Most networks have S = 1.
"""

from aia_jax.errors import UserError
from aia_jax.ops.frames import check_time_parts, time_parts


def check_segments(frames: int, segment_frames: int) -> int:
    """Checks that a clip consists of whole segments, on one device and on a mesh.

    Args:
        frames: of the clip, T·S.
        segment_frames: S.

    Returns:
        T, the number of segments.

    Raises:
        UserError: the frames make no whole segments, or the mesh of this trace would divide one.
    """
    segments, rest = divmod(frames, segment_frames)
    if rest or not segments:
        raise UserError(
            f"a clip of {frames} frames: this network takes segments of {segment_frames} "
            f"consecutive frames, so T segments are clips [B, {segment_frames}·T, H, W, 3]; give a "
            f"multiple of {segment_frames} frames"
        )
    check_time_parts(segments, time_parts(), segment_frames)
    return segments
