"""Which frames of a video make a clip: the reference's rules, index for index."""

import numpy as np

PROTOCOLS = ("random", "center", "twice", "dense10")

_DENSE_CLIPS = 10  # clips of one video under "dense10"
_DENSE_WINDOW = 64  # frames that one dense clip spans, as in I3D


def frame_indices(
    num_available: int, num_frames: int, protocol: str, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Chooses the frames of every clip that a protocol takes from one video.

    * ``random`` (training): with d = num_available // num_frames, frame i is i·d + uniform{0 …
      d−1}, so the last num_available mod num_frames frames are never used. A video with fewer
      frames than the clip (d = 0) gives the ``center`` indices; the reference repeats its first
      frame.
    * ``center`` (validation, one-clip test): the middle of each of `num_frames` equal segments.
    * ``twice`` (two-clip test): the ``center`` clip and the clip of the segments' starts.
    * ``dense10``: ten clips whose starts spread evenly over the video, each with a stride of 64 //
      num_frames, wrapping round at the end.

    Args:
        num_available: frames in the video, at least 1.
        num_frames: frames in a clip (T), at least 1.
        protocol: one of `PROTOCOLS`.
        rng: needed by ``random``, not used by the others.

    Returns:
        int64 [clips, num_frames], 0-based; clips is 1, 1, 2 and 10.

    Raises:
        ValueError: if the protocol is unknown, a number is below 1, or ``random`` has no `rng`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; valid: {', '.join(PROTOCOLS)}")
    if num_available < 1:
        raise ValueError(
            f"a clip needs a video with at least 1 frame, this one has {num_available}"
        )
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}: a clip has at least 1 frame")
    if protocol == "random":
        if rng is None:
            raise ValueError('protocol "random" needs rng, a numpy.random.Generator')
        step = num_available // num_frames
        if step == 0:
            return _segment_middles(num_available, num_frames)[None]
        return (np.arange(num_frames) * step + rng.integers(step, size=num_frames))[None]
    if protocol == "center":
        return _segment_middles(num_available, num_frames)[None]
    if protocol == "twice":
        return np.stack(
            [
                _segment_middles(num_available, num_frames),
                _segment_starts(num_available, num_frames),
            ]
        )
    return _dense(num_available, num_frames)


def _segment_starts(num_available: int, num_frames: int) -> np.ndarray:
    # In floats, as in the reference: integers, n·i // T, would differ where the float product is
    # rounded to just below a whole number.
    return (num_available / num_frames * np.arange(num_frames)).astype(np.int64)


def _segment_middles(num_available: int, num_frames: int) -> np.ndarray:
    segment = num_available / num_frames
    return (segment / 2 + segment * np.arange(num_frames)).astype(np.int64)


def _dense(num_available: int, num_frames: int) -> np.ndarray:
    last_start = max(0, num_available - _DENSE_WINDOW)
    starts = np.linspace(0, last_start, num=_DENSE_CLIPS, dtype=np.int64)
    stride = max(1, _DENSE_WINDOW // num_frames)  # 1 for clips that are longer than the window
    return (starts[:, None] + np.arange(num_frames) * stride) % num_available
