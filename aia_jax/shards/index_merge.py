"""Merges the index files of single shards into that of a split, one shard in memory at a time."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from aia_jax.files import atomic_file
from aia_jax.shards.index import SET_START, SET_VALUES, Index
from aia_jax.shards.index_file import header_bytes

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
    # First pass over the parts: which columns there are, their dtypes and total lengths.
    labels, sets = set(), set()
    for part_file in parts:
        part = Index.load(part_file)
        labels |= part.labels.keys()
        sets |= part.label_sets.keys()
    labels, sets = sorted(labels), sorted(sets)
    lengths, dtypes, shards, damage = [], {}, [], {}
    for part_file in parts:
        part = Index.load(part_file)
        records_before = sum(one["shard"] for one in lengths)
        damage |= {records_before + record: reason for record, reason in part.damage.items()}
        shards += part.shards
        columns = part.columns(labels, sets)
        lengths.append({name: len(column) for name, column in columns.items()})
        dtypes |= {name: column.dtype for name, column in columns.items()}
    records = sum(one["shard"] for one in lengths)
    counted = _STARTS | {SET_START + name: SET_VALUES + name for name in sets}
    totals = {name: sum(one[name] for one in lengths) for name in dtypes}
    totals |= dict.fromkeys(counted, records + 1)
    header = header_bytes(
        shards, damage, [(name, dtypes[name].str, totals[name]) for name in dtypes]
    )

    with atomic_file(path) as file:
        file.write(header)
        column_offsets = {}  # bytes from the file's beginning
        for name in dtypes:
            column_offsets[name] = file.tell()
            size = totals[name] * dtypes[name].itemsize
            file.seek(size, os.SEEK_CUR)
            file.write(b" " * (-size % 8))
        end = file.tell()

        # Second pass: the entries of each part, behind those of the parts before it.
        written = dict.fromkeys(dtypes, 0)  # entries of each column
        shards_before = 0
        for part_file in parts:
            part = Index.load(part_file)
            columns = part.columns(labels, sets)
            for name, column in columns.items():
                entries = written[name]
                if name == "shard":
                    column = column + np.int32(shards_before)
                elif name in counted:
                    column = column + written[counted[name]]
                    entries = written["shard"]  # overwrites the end of the part before
                file.seek(column_offsets[name] + entries * dtypes[name].itemsize)
                file.write(column.astype(dtypes[name]).tobytes())
            shards_before += len(part.shards)
            written = {name: written[name] + len(column) for name, column in columns.items()}
        file.flush()
        crc = 0
        with Path(file.name).open("rb") as content:
            while block := content.read(_BLOCK):
                crc = google_crc32c.extend(crc, block)
        file.seek(end)
        file.write(struct.pack("<I", crc))
