"""Which frames of a video make a clip: the references' rules, index for index, and even ones.

A clip has T segments of S consecutive frames, one after another. S = 1, a frame of each segment, is
what most networks take; H2CN takes S = 5. A segment may start at n − S + 1 places of a video of n
frames, so every rule chooses T starts among these places. With S = 1 they are the frames.
"""

import re

import numpy as np

PROTOCOLS = ("random", "center", "twice", "dense10")
SAMPLINGS = ("reference", "uniform", "mmaction2", "shared", "denseN")

_CLIPS = {"center": 1, "twice": 2, "dense10": 10}
_DENSE_WINDOW = 64  # frames that one clip of "dense10" spans, as in I3D
_DENSE = re.compile(r"dense([1-9]\d{0,4})")


def frame_indices(
    num_available: int,
    num_frames: int,
    protocol: str,
    rng: np.random.Generator | None = None,
    sampling: str = "reference",
    segment_frames: int = 1,
) -> np.ndarray:
    """Chooses the frames of every clip that a protocol takes from one video.

    `sampling` says by whose rules. "reference", for single frames, is the AIA authors':

    * ``random`` (training): with d = num_available // num_frames, frame i is i·d + uniform{0 …
      d−1}, so the last num_available mod num_frames frames are never used. A video with fewer
      frames than the clip (d = 0) gives the ``center`` indices; the reference repeats its first
      frame.
    * ``center`` (validation, one-clip test): the middle of each of `num_frames` equal segments.
    * ``twice`` (two-clip test): the ``center`` clip and the clip of the segments' starts.
    * ``dense10``: ten clips whose starts spread evenly over the video, each with a stride of 64 //
      num_frames, wrapping round at the end.

    Of a video with fewer than 2 · `num_frames` frames ``random`` always takes the first
    `num_frames`, and of one with 64 frames or fewer ``dense10`` makes ten equal clips.

    "reference", for segments of several frames, is the H2CN authors' (Tan et al. 2022). With
    p = num_available − segment_frames + 1 places for a segment and d = p // num_frames:

    * ``random``: segment i starts at i·d + uniform{0 … d−1}. Where d = 0, its starts are sorted
      draws from all places, and 0 in a video with no more frames than segments.
    * ``center``: the middles of equal parts of the p places; 0 where p ≤ num_frames.
    * ``twice``: the ``center`` clip and that of the parts' starts, by analogy: the authors' code
      never comes to it.
    * ``dense10``: ten training clips. The authors draw them at random; here clip j takes the place
      ⌊(i + (j + 0.5) / 10) · p / num_frames⌋, so that a test has one result.

    "uniform" differs from "reference" in short videos, where each place is as likely as any other:

    * ``random``: segments have real borders: frame i is ⌊(i + uniform[0, 1)) · num_available /
      num_frames⌋ (with segments p instead of num_available).
    * ``dense10``: a video that is no longer than the span of a clip gives ten clips of the whole
      video: clip j has ⌊(i + (j + 0.5) / 10) · num_available / num_frames⌋. None wraps round.
    * ``center`` and ``twice`` of segments take the middles and the starts of short videos too.

    "mmaction2" (its SampleFrames) differs from "reference" in videos with fewer frames than the
    clip: ``random`` takes frame round(i · num_available / num_frames), a half to the even number,
    and 0 for one beyond the end. Segments are placed as in "reference", but ``center`` and
    ``twice`` as in "uniform". Its test crops are its own (`view_crops`).

    "shared" (SV-Mix): one offset o in all segments, frame i is i·d + o; below `num_frames` frames
    it is ⌊i · (num_available − 1) / num_frames⌋. ``random`` draws o from {0 … d−1}, and clip j of
    the c clips of a test has o = ⌊j · (d − 1) / c⌋: a single one takes the segments' starts.

    "denseN" (TokShift and MSCA: "dense32"): frames s, s + N, s + 2N … of a window of w = num_frames
    · N frames. A video that is no longer has s = 0, and wraps round. ``random`` draws s from {0 …
    num_available − w − 1}; clip j of the c clips of a test has s = ⌊j · num_available / c⌋, but at
    most num_available − w + 1, so the last clips may be equal. Here too p takes num_available's
    place with segments.

    Args:
        num_available: frames in the video, at least 1.
        num_frames: segments in a clip (T), at least 1.
        protocol: one of `PROTOCOLS`.
        rng: needed by ``random``, not used by the others.
        sampling: one of `SAMPLINGS`; N of "denseN" is the stride in frames.
        segment_frames: consecutive frames of a segment (S). A video with fewer repeats its last.

    Returns:
        int64 [clips, num_frames · segment_frames], 0-based; clips is 1, 1, 2 and 10.

    Raises:
        ValueError: if the protocol or the sampling is unknown, a number is below 1, or ``random``
            has no `rng`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; valid: {', '.join(PROTOCOLS)}")
    if not is_sampling(sampling):
        raise ValueError(f"unknown sampling {sampling!r}; valid: {', '.join(SAMPLINGS)}")
    if num_available < 1:
        raise ValueError(
            f"a clip needs a video with at least 1 frame, this one has {num_available}"
        )
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}: a clip has at least 1 frame")
    if segment_frames < 1:
        raise ValueError(f"segment_frames={segment_frames}: a segment has at least 1 frame")
    if protocol == "random" and rng is None:
        raise ValueError('protocol "random" needs rng, a numpy.random.Generator')
    places = max(1, num_available - segment_frames + 1)
    if stride := dense_stride(sampling):
        starts = _windows(places, num_frames, stride, protocol, rng)
    elif sampling == "shared":
        starts = _shared_offset(places, num_frames, protocol, rng)
    elif segment_frames == 1:
        starts = _single_frames(places, num_frames, protocol, rng, sampling)
    else:
        starts = _segments(places, num_available, num_frames, protocol, rng, sampling)
    if segment_frames == 1:
        return starts
    frames = np.minimum(starts[..., None] + np.arange(segment_frames), num_available - 1)
    return frames.reshape(len(starts), -1)


def is_sampling(text: str) -> bool:
    """Whether a text is one of `SAMPLINGS`, with a number for its N."""
    return text in SAMPLINGS[:-1] or dense_stride(text) > 0


def dense_stride(sampling: str) -> int:
    """The N of "denseN", frames; 0 for another sampling."""
    match = _DENSE.fullmatch(sampling)
    return int(match[1]) if match else 0


def short_video_notes(
    lengths: np.ndarray,
    num_frames: int,
    protocol: str,
    sampling: str,
    split: str,
    segment_frames: int = 1,
) -> list[str]:
    """What a user should know about the short videos of a split, before they are used.

    Args:
        lengths: int [N], frames of each video.
        num_frames: segments in a clip (T).
        protocol: with which clips are taken.
        sampling: one of `SAMPLINGS`.
        split: its name, for the text.
        segment_frames: consecutive frames of a segment (S).

    Returns:
        A line or none.
    """
    uniform = ""  # what data.sampling=uniform does instead
    if stride := dense_stride(sampling):
        limit = num_frames * stride + segment_frames
        rule = "makes equal clips of each, from its start, which may wrap round at its end"
        if protocol == "center":
            limit, rule = limit - stride, "wraps round at the end of each"
    elif protocol == "random" and num_frames > 1:
        limit = 2 * num_frames + segment_frames - 1
        first = num_frames + segment_frames - 1
        rule = f"takes the same frames of each in every epoch, the first {first}"
        if segment_frames > 1:
            rule = f"takes none but the first {first} frames of each"
        uniform = "draws from all frames"
    elif protocol == "dense10" and sampling != "shared" and segment_frames == 1:
        limit = max(_DENSE_WINDOW, num_frames) + 1
        rule = "makes ten equal clips of each, which may wrap round at its end"
        uniform = "spreads ten clips over each"
    else:
        return []
    short = int((np.asarray(lengths) < limit).sum())
    if not short:
        return []
    found = f"{short:,} of {len(lengths):,} {split} videos have fewer than {limit} frames"
    if sampling == "uniform":
        return [f"{found}: data.sampling=uniform {uniform}"]
    instead = f"; --config.data.sampling=uniform {uniform}" if uniform else ""
    return [f"{found}: data.sampling={sampling} {rule}{instead}"]


def describe_clip(num_frames: int, sampling: str, segment_frames: int = 1) -> str:
    """Says which frames of a video the clip of ``center`` has: "8 of the video: …"."""
    clip = f"{num_frames * segment_frames} of the video"
    segments = f"{num_frames} segments of {segment_frames} consecutive frames"
    if stride := dense_stride(sampling):
        end = "from its start, and from the start again where it ends"
        if segment_frames == 1:
            return f"{clip}: every {_ordinal(stride)} {end}"
        return f"{clip}: {segments}, one every {stride} frames {end}"
    place = "starts" if sampling == "shared" else "middles"
    if segment_frames == 1:
        return f"{clip}: the {place} of as many equal segments"
    return f"{clip}: {segments}, at the {place} of {num_frames} equal parts"


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{suffix or 'th'}"


def _single_frames(
    count: int, num_frames: int, protocol: str, rng: np.random.Generator | None, sampling: str
) -> np.ndarray:
    """The AIA authors' frames of a video of `count`, and even ones: int64 [clips, T]."""
    if protocol == "random":
        if sampling == "uniform":
            return _within_parts(count, num_frames, rng.random(num_frames))[None]
        step = count // num_frames
        if step == 0 and sampling == "mmaction2":
            rounded = np.round(np.arange(num_frames) * (count / num_frames))
            return (rounded.astype(np.int64) % count)[None]
        if step == 0:
            return _middles(count, num_frames)[None]
        return (np.arange(num_frames) * step + rng.integers(step, size=num_frames))[None]
    if protocol == "center":
        return _middles(count, num_frames)[None]
    if protocol == "twice":
        return np.stack([_middles(count, num_frames), _starts(count, num_frames)])
    if sampling == "uniform":
        return _even_dense(count, num_frames)
    return _dense(count, num_frames)


def _segments(
    places: int,
    count: int,
    num_frames: int,
    protocol: str,
    rng: np.random.Generator | None,
    sampling: str,
) -> np.ndarray:
    """The starts of H2CN's segments, and even ones: int64 [clips, T], each below `places`."""
    if protocol == "dense10":
        return _ten_parts(places, num_frames)
    step = places // num_frames
    if protocol == "random":
        if sampling == "uniform":
            return _within_parts(places, num_frames, rng.random(num_frames))[None]
        if step:
            return (np.arange(num_frames) * step + rng.integers(step, size=num_frames))[None]
        if count > num_frames:
            return np.sort(rng.integers(places, size=num_frames))[None]
        return np.zeros((1, num_frames), np.int64)
    clips = [_middles(places, num_frames)]
    if protocol == "twice":
        clips.append(_starts(places, num_frames))
    if sampling == "reference" and places <= num_frames:
        return np.zeros((len(clips), num_frames), np.int64)
    return np.stack(clips)


def _shared_offset(
    count: int, num_frames: int, protocol: str, rng: np.random.Generator | None
) -> np.ndarray:
    """SV-Mix's frames, one offset in all parts: int64 [clips, T]."""
    clips = _CLIPS.get(protocol, 1)
    step = count // num_frames
    if step == 0:
        return np.tile(np.arange(num_frames) * (count - 1) // num_frames, (clips, 1))
    if protocol == "random":
        offsets = rng.integers(step, size=1)
    else:
        offsets = np.arange(clips) * (step - 1) // clips
    return offsets[:, None] + np.arange(num_frames) * step


def _windows(
    count: int, num_frames: int, stride: int, protocol: str, rng: np.random.Generator | None
) -> np.ndarray:
    """Every `stride`-th frame of a window: int64 [clips, T]."""
    clips = _CLIPS.get(protocol, 1)
    room = count - num_frames * stride
    starts = np.zeros(clips, np.int64)
    if room > 0:
        # The authors' last start; a window of stride 1 would pass the end there.
        last = min(room + 1, room + stride - 1)
        starts = np.minimum(np.arange(clips) * count // clips, last)
        if protocol == "random":
            starts = rng.integers(room, size=1)
    return (starts[:, None] + np.arange(num_frames) * stride) % count


def _starts(count: int, parts: int) -> np.ndarray:
    # In floats, as in the reference: integers, n·i // T, would differ where the float product is
    # rounded to just below a whole number.
    return (count / parts * np.arange(parts)).astype(np.int64)


def _middles(count: int, parts: int) -> np.ndarray:
    part = count / parts
    return (part / 2 + part * np.arange(parts)).astype(np.int64)


def _within_parts(count: int, parts: int, offsets: np.ndarray | float) -> np.ndarray:
    """A frame of each of equal parts of a video, at `offsets` (shares of a part) in it."""
    positions = (np.arange(parts) + offsets) * (count / parts)
    # A product may be rounded up to the end of the video.
    return np.minimum(positions.astype(np.int64), count - 1)


def _ten_parts(count: int, parts: int) -> np.ndarray:
    """Ten clips, each at another tenth of every part: int64 [10, parts]."""
    tenths = (np.arange(_CLIPS["dense10"])[:, None] + 0.5) / _CLIPS["dense10"]
    return _within_parts(count, parts, tenths)


def _even_dense(count: int, num_frames: int) -> np.ndarray:
    span = max(_DENSE_WINDOW, num_frames)
    if count <= span:
        return _ten_parts(count, num_frames)
    starts = np.linspace(0, count - span, num=_CLIPS["dense10"], dtype=np.int64)
    return starts[:, None] + np.arange(num_frames) * (span // num_frames)


def _dense(count: int, num_frames: int) -> np.ndarray:
    last_start = max(0, count - _DENSE_WINDOW)
    starts = np.linspace(0, last_start, num=_CLIPS["dense10"], dtype=np.int64)
    stride = max(1, _DENSE_WINDOW // num_frames)  # 1 for clips that are longer than the window
    return (starts[:, None] + np.arange(num_frames) * stride) % count
