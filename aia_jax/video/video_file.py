"""Decodes a video file strictly: every frame in order, or the reason why not.

FFmpeg goes on after damage: it conceals, repeats or leaves out frames, and often says so in its log
only. So the log counts here: what a demuxer or the video's decoder calls an error is damage.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import av
import av.logging

from aia_jax.video.faults import MAX_PIXELS, UnreadableVideo, check_pixels, check_regular
from aia_jax.video.ffmpeg_log import decoder_error, demuxer_errors, listen
from aia_jax.video.file_end import has_length, missing_end, promised_end, reaches_its_end

SAME_TIME = 1e-4  # seconds; time stamps are rounded, in some containers to milliseconds
# A file counts as cut off if its streams end earlier than its header says by more than one second,
# and, where all of it was to be read, by more than a tenth of the length. Nothing stricter works:
# headers round.
_EARLY_SECONDS, _EARLY_FRACTION = 1.0, 0.1
# A recording of a broadcast begins anywhere; players show it from its first key frame on.
_BROADCAST = frozenset(("mpegts", "mpeg"))
# AVI stores the order of decoding and no times. Where these codecs show frames in another order,
# FFmpeg's guesses at the times depend on where it begins to decode.
_REORDERING = frozenset(("h264", "hevc"))
_MOST_REORDERED = 16  # frames between decoding and showing one
# A title that is not UTF-8 does not make the pictures unreadable. From PyAV 19 on, none does.
_LENIENT_TITLES = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
_MAX_SEEK = 1e9  # seconds, which fit into FFmpeg's 64 bits in any unit


class SeekMissed(Exception):
    """Decoding began behind the wanted time; nothing has been yielded."""


class VideoFile:
    """A video file that is open for decoding. Use it in a `with` block.

    Attributes:
        path: of the file.
        container: of PyAV.
        stream: the video stream.
        fps: frames a second; 0 where unknown.
        is_numbered: whether the time of a frame is its number over `fps`, so that decoding has to
            begin with the first one.
        at_end: whether `frames` has read the file to its end.
    """

    def __init__(self, path: Path, threads: int = 1):
        """Opens a file.

        Args:
            path: of the file.
            threads: threads that decode; 0 uses one a core. With more than one, FFmpeg's errors
                cannot be assigned to frames, and all of them count.

        Raises:
            UnreadableVideo: if it is no file, or has no video stream that FFmpeg can decode.
            OSError: if it cannot be opened.
            av.error.FFmpegError: if FFmpeg cannot read it.
        """
        listen()
        self.path, self.at_end = path, False
        self._one_thread, self._sought = threads == 1, False
        self._count = self._packets = 0
        self._last = self._audio_end = -math.inf  # seconds at which frames and sound end
        self._cut = ""  # FFmpeg's error where the file ended inside something
        with av.logging.Capture() as messages:
            self.container = open_video(path)
        try:
            self.stream = video_stream(self.container)
            context = self.stream.codec_context
            check_pixels(context.height, context.width, "the video")
            # A small file is read to its end here; other errors come again while it is decoded.
            self._find_damage(messages)
            context.options = {"max_pixels": str(MAX_PIXELS)}  # frames may grow inside a file
            context.thread_count = threads
            if threads != 1:
                self.stream.thread_type = "AUTO"  # threads for whole frames too, not only slices
            self.fps = float(self.stream.average_rate or self.stream.guessed_rate or 0)
            reorders = context.has_b_frames or context.name in _REORDERING
            self.is_numbered = self.container.format.name == "avi" and bool(reorders and self.fps)
            self._tick = float(self.stream.time_base)  # seconds; the unit of all time stamps
            self._origin = float((self.stream.start_time or 0) * self.stream.time_base)
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # FFmpeg's threads may still decode. Closing waits for them and holds the interpreter's
        # lock, which they need to log an error; flushing waits without it.
        with contextlib.suppress(av.error.FFmpegError):
            self.stream.codec_context.flush_buffers()
        self.container.close()

    def seek(self, seconds: int | float) -> None:
        """Goes to a key frame at or before a time since the first frame, if FFmpeg finds one.

        Raises:
            SeekMissed: if the file cannot be sought in.
        """
        offset = int((self._origin + min(seconds, _MAX_SEEK)) / self.stream.time_base)
        try:
            self.container.seek(max(0, offset), stream=self.stream)
        except av.error.FFmpegError as error:
            raise SeekMissed from error
        self._sought = True

    def frames(
        self, start: int | float = -math.inf, stop: int | float = math.inf
    ) -> Iterator[av.VideoFrame]:
        """Yields the frames whose time lies in a range, in the order in which they are shown.

        Damage does not matter behind the range, nor before the last key frame before it.

        Args:
            start: seconds since the first frame; included.
            stop: seconds since the first frame; not included.

        Raises:
            UnreadableVideo: at damage that FFmpeg finds, and where a range is asked for in a file
                without times.
            SeekMissed: if `seek` led behind `start`.
            av.error.FFmpegError: if the file cannot be read.
        """
        is_range = start > -math.inf or stop < math.inf
        fault = behind = ignored = ""
        first_key, decodes = None, not self._sought
        # Whether errors count: before the first key frame a broadcast has nothing to decode.
        counts = decodes and self.container.format.name not in _BROADCAST
        for packet, damage in self._demux():
            fault = fault or damage
            earliest, latest = self._bounds(packet) if is_range else (-math.inf, math.inf)
            if packet.is_keyframe:
                if first_key is None:
                    first_key = packet.pts
                    if self._sought and latest > start + SAME_TIME:
                        raise SeekMissed
                decodes = counts = True
                if latest <= start + SAME_TIME:
                    fault = ""
            if not decodes:
                continue
            is_behind = earliest > stop - SAME_TIME
            if behind and not is_behind:  # this frame may have been predicted from that one
                fault = fault or behind
            decoded, error = self._decode(packet)
            if error:
                error = f"damaged near frame {self._count} ({error})"
                # A frame that is shown before the first key frame needs frames from before it.
                is_leading = None not in (first_key, packet.pts) and packet.pts < first_key
                if self._one_thread and (is_leading or not counts):
                    ignored = ignored or error
                elif is_behind:
                    behind = behind or error
                else:
                    fault = fault or error
            if fault and not is_range:
                raise UnreadableVideo(fault)
            for frame in decoded:
                time = self._time(frame, is_range)
                if self._sought and not self._count and time > start + SAME_TIME:
                    raise SeekMissed
                if time >= stop - SAME_TIME:
                    return
                number, self._count = self._count, self._count + 1
                self._last = max(self._last, time + self._duration(frame))
                if time < start - SAME_TIME:
                    continue
                if fault or frame.is_corrupt:
                    where = f"the frame at {time:.2f} s" if is_range else f"frame {number}"
                    raise UnreadableVideo(fault or f"{where} is damaged")
                yield frame
        if self._sought and not self._count:
            raise SeekMissed
        if fault or (ignored and first_key is None):
            raise UnreadableVideo(fault or ignored)
        self.at_end = True

    def check_end(self, stop: int | float = math.inf) -> bool:
        """Checks, once `frames` has come to the end of the file, that the end is not cut off.

        Args:
            stop: seconds since the first frame, up to which frames were wanted.

        Returns:
            Whether the file says how long it is; if not, a cut may not show.

        Raises:
            UnreadableVideo: if the file is cut off.
        """
        if missing := missing_end(self.path, self.container):
            raise UnreadableVideo(f"cut off: {missing}")
        promised = promised_end(self.path, self.container, self.stream) - self._origin
        slack = _EARLY_SECONDS
        if stop == math.inf:
            slack = max(slack, _EARLY_FRACTION * promised)
        # Where sound goes on to the promised end, or all packets that the index lists were there,
        # nothing is missing: the pictures just end earlier.
        has_all = 0 < self.stream.frames <= self._packets and self.container.format.name != "avi"
        if (
            self._last > -math.inf
            and max(self._last, self._audio_end - self._origin) < min(stop, promised) - slack
            and not has_all
            and not reaches_its_end(self.path, self.container)
        ):
            raise UnreadableVideo(
                f"cut off: its {self._count} frames end at {self._last:.1f} s, the file's header "
                f"promises {promised:.1f} s"
            )
        if self._cut:
            raise UnreadableVideo(f"cut off (FFmpeg: {self._cut})")
        return has_length(self.path, self.container, promised)

    def _demux(self) -> Iterator[tuple[av.Packet, str]]:
        """Yields the packets of the video stream, each with what was damaged on the way to it."""
        packets = self.container.demux()
        while True:
            with self._capture() as messages:
                packet = next(packets, None)
            damage = self._find_damage(messages)
            if packet is None:
                return
            if packet.stream_index == self.stream.index:
                if packet.size or packet.dts is None:  # else a frame that AVI repeats
                    self._packets += packet.size > 0
                    yield packet, damage
            elif packet.stream.type == "audio" and packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._audio_end = max(self._audio_end, end)

    def _find_damage(self, messages: list[tuple[int, str, str]]) -> str:
        """The demuxer's first error, empty if there is none; notes if the file ended too early."""
        cut, error = demuxer_errors(messages, self.container.format.name, self.stream.index)
        self._cut = self._cut or cut
        return f"damaged (FFmpeg: {error})" if error else ""

    def _decode(self, packet: av.Packet) -> tuple[list[av.VideoFrame], str]:
        """Decodes a packet; returns its frames and FFmpeg's error, empty if there is none."""
        frames, error = [], ""
        with self._capture() as messages:
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except av.error.FFmpegError as failure:
                error = failure.strerror or str(failure)
        return frames, decoder_error(messages) or error

    def _capture(self) -> av.logging.Capture:
        return av.logging.Capture(local=self._one_thread)

    def _bounds(self, packet: av.Packet) -> tuple[float, float]:
        """The earliest and the latest time of a packet's frame, in seconds since the first one."""
        if self.is_numbered:
            return self._count / self.fps, (self._count + _MOST_REORDERED) / self.fps
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:  # of the packet that ends the stream
            return -math.inf, math.inf
        time = stamp * self._tick - self._origin
        return time, time

    def _time(self, frame: av.VideoFrame, is_needed: bool) -> float:
        if self.is_numbered:
            return self._count / self.fps
        if frame.time is None:
            if is_needed:
                raise UnreadableVideo(
                    "frames without times: no segment can be cut out of this file"
                )
            return -math.inf
        return frame.time - self._origin

    def _duration(self, frame: av.VideoFrame) -> float:
        if frame.duration and not self.is_numbered:
            return frame.duration * self._tick
        return 1 / self.fps if self.fps else 0.0


def open_video(path: Path) -> av.container.InputContainer:
    """Opens a media file; it may still have no video stream.

    Raises:
        UnreadableVideo: if it is empty, or no file.
        OSError: if there is none.
        av.error.FFmpegError: if FFmpeg cannot read it.
    """
    check_regular(path)
    # "file:" keeps FFmpeg from taking a colon in the name for a protocol, and the list from
    # following the addresses that a playlist holds.
    return av.open(
        f"file:{path}",
        options={"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)},
        **_LENIENT_TITLES,
    )


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Returns the video stream of a file.

    Raises:
        UnreadableVideo: if there is none that FFmpeg can decode. The cover picture of a piece of
            music is no video.
    """
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    best = container.streams.best("video")
    stream = best if best in videos else next(iter(videos), None)
    if stream is None and best is not None:
        raise UnreadableVideo("a cover picture is all that this file has to show, no video")
    if stream is None or stream.codec_context is None:
        raise UnreadableVideo("no video stream that can be decoded in this file")
    return stream
