"""Whether a video file goes on to its end, by what the containers say about their length."""

import struct
from pathlib import Path
from typing import BinaryIO

import av

# Their time stamps are all that tells the length, so a file that is cut off looks whole. The rest
# are streams without a container.
_WITHOUT_LENGTH = frozenset(
    ("mpegts", "mpeg", "ogg", "h261", "h263", "h264", "hevc", "vvc", "m4v", "mjpeg", "mpegvideo")
)
_MATROSKA = "matroska,webm"
_EBML_ID, _SEGMENT_ID = 0x1A45DFA3, 0x18538067
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, and where its sync byte stands
_TS_SYNC = 0x47
_HEAD = 4096  # bytes that are read at the beginning or the end of a file
_GIF_TRAILER = b"\x3b"
# ASF's File Properties Object; behind it follow its size, an identifier and the size of the file.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SIZE_AT, _ASF_FLAGS_AT = 40, 88  # bytes behind the beginning of the object


def missing_end(path: Path, container: av.container.InputContainer) -> str:
    """Says by the file's structure alone that its end is missing; empty if nothing shows it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if container.format.name == "mpegts" and (rest := _ts_rest(file, head, size)):
            return f"its last transport packet has {rest} bytes only"
        if container.format.name == "asf" and (promised := _asf_size(head)) > size:
            return f"it has {size:,} of the {promised:,} bytes that its header promises"
    return ""


def promised_end(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> float:
    """The second at which the stream ends according to the file's header; 0 if it does not say."""
    if stamp := stream.metadata.get("DURATION"):  # Matroska and WebM: 00:00:04.170000000
        try:
            hours, minutes, seconds = stamp.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return 0.0
    if container.format.name == "avi":  # here FFmpeg guesses the duration from the file's size
        return float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    # The header's length of the whole file. FFmpeg may guess it for a live recording.
    if container.format.name == _MATROSKA and container.duration and _matroska_end(path):
        return container.duration / av.time_base
    return 0.0


def has_length(path: Path, container: av.container.InputContainer, promised: float) -> bool:
    """Whether the file says how long it is, or marks its end, so that a cut shows.

    Args:
        path: of the file.
        container: of the file.
        promised: what `promised_end` returned.
    """
    if container.format.name == "gif":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _HEAD))
            return file.read().rstrip(b"\0").endswith(_GIF_TRAILER)
    return promised > 0 and container.format.name not in _WITHOUT_LENGTH


def reaches_its_end(path: Path, container: av.container.InputContainer) -> bool:
    """Whether a Matroska file is as long as its header says; False for other containers."""
    if container.format.name != _MATROSKA:
        return False
    end = _matroska_end(path)
    return bool(end) and path.stat().st_size >= end


def _asf_size(head: bytes) -> int:
    """The bytes of an ASF file according to its header; 0 if it does not say."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + _ASF_FLAGS_AT + 4:
        return 0
    is_broadcast = head[at + _ASF_FLAGS_AT] & 1
    return 0 if is_broadcast else struct.unpack_from("<Q", head, at + _ASF_SIZE_AT)[0]


def _ts_rest(file: BinaryIO, head: bytes, size: int) -> int:
    """The bytes of a transport stream's last packet if it is not whole, else 0."""
    for length, sync in _TS_PACKETS:
        if len(head) > 2 * length + sync and set(head[sync::length]) == {_TS_SYNC}:
            rest = size % length
            file.seek(max(0, size - rest - length))
            ends = file.read()[sync::length]  # begins of the last whole packet and of the rest
            # Anything else behind the packets is no packet that was cut.
            return rest if rest > sync and set(ends) == {_TS_SYNC} else 0
    return 0


def _matroska_end(path: Path) -> int:
    """The byte at which a Matroska file's segment ends; 0 if it does not say, as in recordings."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    at = 0
    while at < len(head):
        element, at = _vint(head, at, keep_marker=True)
        length, at = _vint(head, at, keep_marker=False)
        if element == _SEGMENT_ID:
            return 0 if length is None else at + length
        if element != _EBML_ID or length is None:
            return 0
        at += length
    return 0


def _vint(head: bytes, at: int, keep_marker: bool) -> tuple[int | None, int]:
    """Reads a number of EBML and the byte after it; None for "unknown" and beyond the head."""
    if at >= len(head) or not head[at]:
        return None, len(head)
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big")
    if keep_marker:
        return value, at + length
    mask = (1 << 7 * length) - 1
    return (None if value & mask == mask else value & mask), at + length
