"""Makes one host's block of rows of a global batch, wherever that is done."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np

Batch = dict[str, np.ndarray]


@runtime_checkable
class RowMaker(Protocol):
    """Makes single rows of global batches: a clip and what belongs to it. Sent to workers."""

    clip_shape: tuple[int, ...]

    def new_fields(self, count: int) -> Batch:
        """Makes the arrays beside the clips, of `count` rows along the first axis, to be filled."""

    def fill_row(self, step: int, row: int, slot: int, clip: np.ndarray, fields: Batch) -> None:
        """Makes one row.

        Args:
            step: number of the global batch.
            row: which row of it.
            slot: the entry of each of the `fields` to fill.
            clip: uint8 [*clip_shape], overwritten.
            fields: from `new_fields`.
        """


class BlockMaker:
    """Makes a host's block of a global batch from the batch's number. Sent to workers."""

    def __init__(self, row_maker: RowMaker, block: range, threads: int):
        self._row_maker, self._block, self._threads = row_maker, block, threads
        self._pool = None  # a process makes its own, as threads cannot be sent

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pool": None}

    @property
    def clips_shape(self) -> tuple[int, ...]:
        return len(self._block), *self._row_maker.clip_shape

    def fill(self, step: int, clips: np.ndarray, before_row: Callable[[], None]) -> Batch:
        """Fills `clips` and returns the arrays that belong to them.

        Args:
            step: number of the global batch.
            clips: uint8 [*clips_shape], overwritten.
            before_row: called before each row, in the row's thread; an exception of it ends the
                block.
        """
        step = int(step)
        fields = self._row_maker.new_fields(len(self._block))

        def fill_row(slot: int) -> None:
            before_row()
            self._row_maker.fill_row(step, self._block[slot], slot, clips[slot], fields)

        for _ in self._map(fill_row, range(len(self._block))):
            pass  # an exception of a thread is raised here
        return fields

    def _map(self, fill_row: Callable[[int], None], slots: range) -> Iterator[None]:
        if self._threads <= 1:
            return map(fill_row, slots)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="rows")
        return self._pool.map(fill_row, slots)
