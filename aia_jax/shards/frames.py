"""Decodes the stored JPEG frames of a record, and finds what is damaged in it."""

from collections.abc import Sequence

import numpy as np
import simplejpeg

from aia_jax.shards.reader import DamagedRecord, ShardReader

_MAX_PIXELS = 1 << 26  # a damaged header can announce a picture that would fill the memory


def read_pictures(reader: ShardReader, record: int, frames: Sequence[int]) -> list[np.ndarray]:
    """Reads and decodes some frames of a video; the rest of its bytes are not touched.

    Args:
        reader: of the split.
        record: the video.
        frames: numbers in the video, from 0.

    Returns:
        uint8 [H, W, 3] RGB each, all of one size.

    Raises:
        DamagedRecord: if the bytes are damaged, a JPEG cannot be decoded without errors, or the
            pictures differ in size.
    """
    pictures = []
    for frame, jpeg in zip(frames, reader.read_frames(record, frames), strict=True):
        try:
            height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
            if height * width > _MAX_PIXELS:
                raise ValueError(f"its header says {height}×{width} pixels")
            # Strict: other decoders return a grey or shifted picture and no error.
            picture = simplejpeg.decode_jpeg(jpeg, strict=True)
        except ValueError as error:
            raise _damaged(reader, record, f"frame {frame} is no intact JPEG ({error})") from error
        if pictures and picture.shape != pictures[0].shape:
            sizes = " and ".join("{}×{}".format(*one.shape[:2]) for one in (pictures[0], picture))
            raise _damaged(reader, record, f"its frames differ in size ({sizes})")
        pictures.append(picture)
    return pictures


def find_damage(reader: ShardReader, record: int) -> str:
    """Reads a whole video and says what is damaged; empty if nothing is."""
    try:
        reader.read_record(record)
        count = int(reader.index.num_frames[record])
        first = read_pictures(reader, record, range(min(count, 1)))
        # Each frame is read beside the first, whose size it must have: memory would not hold all.
        for frame in range(1, count):
            read_pictures(reader, record, (0, frame))
    except DamagedRecord as damage:
        return damage.reason
    return "" if first else "it has no frames"


def _damaged(reader: ShardReader, record: int, reason: str) -> DamagedRecord:
    return DamagedRecord(
        *reader.index.shard_and_number(record), reader.index.video_id(record), reason
    )
