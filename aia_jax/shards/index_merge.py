"""Merges the index files of single shards into that of a split, one shard in memory at a time."""

import os
import struct
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import google_crc32c
import numpy as np

from aia_jax.files import atomic_file
from aia_jax.shards.index import Index, header_bytes
from aia_jax.shards.index_builder import NO_LABEL

_BLOCK = 1 << 24  # bytes that are checked at a time
# Columns that hold where a record's entries begin in another column. They have one entry more than
# there are records.
_STARTS = {"first_frame": "frame_offset", "video_id_start": "video_id_bytes"}


def merge_index_files(parts: Sequence[Path], path: Path) -> None:
    """Writes the index of a split, whole or not at all.

    The file has the same bytes as that of `Index.join(…).save(path)`. A large split has gigabytes
    of columns, so they are not held in memory.

    Args:
        parts: the index file of each shard, in the order of the shards.
        path: of the index file.

    Raises:
        index.IndexFileError: if a part is damaged.
    """
    # First pass over the parts: dtype and total length of each column.
    lengths, dtypes, labels, shards, damage = [], {}, set(), [], {}
    for part_file in parts:
        part = Index.load(part_file)
        records_before = sum(one["shard"] for one in lengths)
        damage |= {records_before + record: reason for record, reason in part.damage.items()}
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
        column_offsets = {}  # bytes from the file's beginning
        for name in names:
            column_offsets[name] = file.tell()
            size = totals[name] * dtypes[name].itemsize
            file.seek(size, os.SEEK_CUR)
            file.write(b" " * (-size % 8))
        end = file.tell()

        # Second pass: the entries of each part, behind those of the parts before it.
        written = dict.fromkeys(names, 0)  # entries of each column
        shards_before = 0
        for part_file in parts:
            part = Index.load(part_file)
            for name, column in _columns(part, labels).items():
                entries = written[name]
                if name == "shard":
                    column = column + np.int32(shards_before)
                elif name in _STARTS:
                    column = column + written[_STARTS[name]]
                    entries = written["shard"]  # overwrites the end of the part before
                file.seek(column_offsets[name] + entries * dtypes[name].itemsize)
                file.write(column.astype(dtypes[name]).tobytes())
            shards_before += len(part.shards)
            written = {
                name: written[name] + len(column) for name, column in _columns(part, labels).items()
            }
        file.flush()
        crc = 0
        with Path(file.name).open("rb") as content:
            while block := content.read(_BLOCK):
                crc = google_crc32c.extend(crc, block)
        file.seek(end)
        file.write(struct.pack("<I", crc))


def _columns(part: Index, labels: set[str]) -> dict[str, np.ndarray]:
    """The columns of a part in the order of the file, with one for each of `labels`."""
    columns = {
        field.name: getattr(part, field.name) for field in fields(part) if field.type is np.ndarray
    }
    unlabelled = np.full(len(part), NO_LABEL, np.int64)
    return columns | {
        f"label:{label}": part.labels.get(label, unlabelled) for label in sorted(labels)
    }
