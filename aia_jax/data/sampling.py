"""Which frames of a video make a clip: the reference's rules, index for index, and even ones."""

import numpy as np

PROTOCOLS = ("random", "center", "twice", "dense10")
SAMPLINGS = ("reference", "uniform")

_DENSE_CLIPS = 10  # clips of one video under "dense10"
_DENSE_WINDOW = 64  # frames that one dense clip spans, as in I3D


def frame_indices(
    num_available: int,
    num_frames: int,
    protocol: str,
    rng: np.random.Generator | None = None,
    sampling: str = "reference",
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

    These are the reference's rules. Of a video with fewer than 2 · `num_frames` frames ``random``
    always takes the first `num_frames`, and of one with 64 frames or fewer ``dense10`` makes ten
    equal clips. `sampling` "uniform" differs in both, in nothing else:

    * ``random``: segments have real borders: frame i is ⌊(i + uniform[0, 1)) · num_available /
      num_frames⌋, so every frame is as likely as any other.
    * ``dense10``: a video that is no longer than the span of a clip gives ten clips of the whole
      video: clip j has ⌊(i + (j + 0.5) / 10) · num_available / num_frames⌋. None wraps round.

    Args:
        num_available: frames in the video, at least 1.
        num_frames: frames in a clip (T), at least 1.
        protocol: one of `PROTOCOLS`.
        rng: needed by ``random``, not used by the others.
        sampling: one of `SAMPLINGS`.

    Returns:
        int64 [clips, num_frames], 0-based; clips is 1, 1, 2 and 10.

    Raises:
        ValueError: if the protocol or the sampling is unknown, a number is below 1, or ``random``
            has no `rng`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; valid: {', '.join(PROTOCOLS)}")
    if sampling not in SAMPLINGS:
        raise ValueError(f"unknown sampling {sampling!r}; valid: {', '.join(SAMPLINGS)}")
    if num_available < 1:
        raise ValueError(
            f"a clip needs a video with at least 1 frame, this one has {num_available}"
        )
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}: a clip has at least 1 frame")
    if protocol == "random":
        if rng is None:
            raise ValueError('protocol "random" needs rng, a numpy.random.Generator')
        if sampling == "uniform":
            return _within_segments(num_available, num_frames, rng.random(num_frames))[None]
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
    if sampling == "uniform":
        return _even_dense(num_available, num_frames)
    return _dense(num_available, num_frames)


def short_video_notes(
    lengths: np.ndarray, num_frames: int, protocol: str, sampling: str, split: str
) -> list[str]:
    """What a user should know about the short videos of a split, before they are used.

    Args:
        lengths: int [N], frames of each video.
        num_frames: frames in a clip (T).
        protocol: with which clips are taken.
        sampling: one of `SAMPLINGS`.
        split: its name, for the text.

    Returns:
        A line or none.
    """
    if protocol == "random" and num_frames > 1:
        limit, uniform = 2 * num_frames, "draws from all frames"
        reference = f"takes the same frames of each in every epoch, the first {num_frames}"
    elif protocol == "dense10":
        limit = max(_DENSE_WINDOW, num_frames) + 1
        reference = "makes ten equal clips of each, which may wrap round at its end"
        uniform = "spreads ten clips over each"
    else:
        return []
    short = int((np.asarray(lengths) < limit).sum())
    if not short:
        return []
    found = f"{short:,} of {len(lengths):,} {split} videos have fewer than {limit} frames"
    if sampling == "uniform":
        return [f"{found}: data.sampling=uniform {uniform}"]
    return [
        f"{found}: data.sampling=reference {reference}; --config.data.sampling=uniform {uniform}"
    ]


def _segment_starts(num_available: int, num_frames: int) -> np.ndarray:
    # In floats, as in the reference: integers, n·i // T, would differ where the float product is
    # rounded to just below a whole number.
    return (num_available / num_frames * np.arange(num_frames)).astype(np.int64)


def _segment_middles(num_available: int, num_frames: int) -> np.ndarray:
    segment = num_available / num_frames
    return (segment / 2 + segment * np.arange(num_frames)).astype(np.int64)


def _within_segments(
    num_available: int, num_frames: int, offsets: np.ndarray | float
) -> np.ndarray:
    """A frame of each of `num_frames` equal segments, at `offsets` (shares of a segment) in it."""
    positions = (np.arange(num_frames) + offsets) * (num_available / num_frames)
    # A product may be rounded up to the end of the video.
    return np.minimum(positions.astype(np.int64), num_available - 1)


def _even_dense(num_available: int, num_frames: int) -> np.ndarray:
    span = max(_DENSE_WINDOW, num_frames)
    if num_available <= span:
        offsets = (np.arange(_DENSE_CLIPS)[:, None] + 0.5) / _DENSE_CLIPS  # [clips, 1]
        return _within_segments(num_available, num_frames, offsets)
    starts = np.linspace(0, num_available - span, num=_DENSE_CLIPS, dtype=np.int64)
    return starts[:, None] + np.arange(num_frames) * (span // num_frames)


def _dense(num_available: int, num_frames: int) -> np.ndarray:
    last_start = max(0, num_available - _DENSE_WINDOW)
    starts = np.linspace(0, last_start, num=_DENSE_CLIPS, dtype=np.int64)
    stride = max(1, _DENSE_WINDOW // num_frames)  # 1 for clips that are longer than the window
    return (starts[:, None] + np.arange(num_frames) * stride) % num_available
