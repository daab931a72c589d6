"""Puts the index files of single shards together to that of a split, in constant memory: a large
split has gigabytes of rows.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import google_crc32c
import numpy as np

from aia_jax.shards.index import Index, header_bytes
from aia_jax.shards.index_rows import NO_LABEL
from aia_jax.shards.tfrecord import atomic_file

_BLOCK = 1 << 24  # bytes that are checked at a time
_STARTS = {
    "first_frame": "frame_offset",
    "video_id_start": "video_id_bytes",
}  # columns that count the rows of another, with one at the end


def merge_index_files(parts: Sequence[Path], path: Path) -> None:
    """Writes the index of a split, whole or not at all: to the byte the file of
    `Index.join(…).save(path)`.

    Args:
        parts: the index file of each shard, in the order of the shards.
        path: of the index file.

    Raises:
        index.IndexFileError: if a part is damaged.
    """
    lengths, dtypes, labels, shards, damage = [], {}, set(), [], {}
    for file in parts:
        part = Index.load(file)
        damage |= {
            sum(one["shard"] for one in lengths) + record: why
            for record, why in part.damage.items()
        }
        shards += part.shards
        labels |= part.labels.keys()
        columns = _columns(part, set(part.labels))
        lengths.append({name: len(column) for name, column in columns.items()})
        dtypes |= {name: column.dtype for name, column in columns.items()}
    names = [name for name in dtypes if not name.startswith("label:")] + [
        f"label:{label}" for label in sorted(labels)
    ]
    records = sum(one["shard"] for one in lengths)
    totals = {
        name: records if name.startswith("label:") else sum(one[name] for one in lengths)
        for name in names
    }
    totals |= dict.fromkeys(_STARTS, records + 1)
    header = header_bytes(
        shards, damage, [(name, dtypes[name].str, totals[name]) for name in names]
    )

    with atomic_file(path) as file:
        file.write(header)
        places, shards_before = {}, 0
        for name in names:
            places[name] = file.tell()
            size = totals[name] * dtypes[name].itemsize
            file.seek(size, os.SEEK_CUR)
            file.write(b" " * (-size % 8))
        end = file.tell()
        before = dict.fromkeys(names, 0)
        for one in parts:
            part = Index.load(one)
            for name, column in _columns(part, labels).items():
                if name == "shard":
                    column = column + np.int32(shards_before)
                elif name in _STARTS:
                    column = column + before[_STARTS[name]]
                file.seek(
                    places[name]
                    + before["shard" if name in _STARTS else name] * dtypes[name].itemsize
                )
                file.write(column.astype(dtypes[name]).tobytes())
            shards_before += len(part.shards)
            before = {
                name: before[name] + len(column) for name, column in _columns(part, labels).items()
            }
        file.flush()
        crc = 0
        with Path(file.name).open("rb") as written:
            while block := written.read(_BLOCK):
                crc = google_crc32c.extend(crc, block)
        file.seek(end)
        file.write(struct.pack("<I", crc))


def _columns(part: Index, labels: set[str]) -> dict[str, np.ndarray]:
    columns = {
        field.name: getattr(part, field.name) for field in fields(part) if field.type is np.ndarray
    }
    unlabelled = np.full(len(part), NO_LABEL, np.int64)
    return columns | {
        f"label:{label}": part.labels.get(label, unlabelled) for label in sorted(labels)
    }
