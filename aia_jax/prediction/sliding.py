"""Where the windows lie that slide over a long video."""

import dataclasses
import math
from pathlib import Path

from aia_jax.errors import UserError
from aia_jax.video.timed_frames import Clock


@dataclasses.dataclass(frozen=True)
class Sliding:
    """How a window slides over a video.

    Attributes:
        window: its length in seconds.
        stride: seconds between the starts of one window and the next.

    Raises:
        UserError: one of them is no number above 0.
    """

    window: int | float
    stride: int | float

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                raise UserError(f"--{name} {seconds}: expected a number of seconds above 0")

    def place(
        self, source: Path, clock: Clock, segment_frames: int = 1
    ) -> list[tuple[float, float]]:
        """The (start, end) of every window of a video, in seconds since its first frame.

        Windows start every `stride` seconds. One that would pass the end is moved back, so that the
        end is seen in a window of full length. A video that is no longer than the window is one
        window.

        Args:
            source: the video.
            clock: of the source.
            segment_frames: consecutive frames that the network needs, which a window must hold.

        Raises:
            UserError: the window or the stride is shorter than a frame, or the window is shorter
                than a segment.
        """
        frame = 1 / clock.fps
        for name in ("window", "stride"):
            if getattr(self, name) < 0.999 * frame:
                raise UserError(
                    f"--{name} {getattr(self, name):g}: {source} has a new frame every {frame:.3g} "
                    "s; give at least as much"
                )
        if self.window < (segment_frames - 0.001) * frame:
            raise UserError(
                f"--window {self.window:g}: the network takes segments of {segment_frames} "
                f"consecutive frames, and {source} has a new frame every {frame:.3g} s; give at "
                f"least {segment_frames * frame:.3g}"
            )
        end, slack = float(clock.end), frame / 2
        if end <= self.window + slack:
            return [(0.0, end)]
        count = 1 + math.floor((end - self.window + slack) / self.stride)
        starts = [float(number * self.stride) for number in range(count)]
        windows = [(start, min(start + self.window, end)) for start in starts]
        if windows[-1][1] < end - slack and count * self.stride < end - slack:
            windows.append((end - self.window, end))
        return windows
