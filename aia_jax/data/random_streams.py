"""Random numbers of a run's data: streams that depend on the seed and a number alone.

Row r of step s of batches of B has the stream s·B + r. The streams of permutations are numbers that
no row has.
"""

from functools import lru_cache

import numpy as np

_EPOCH_STREAM = 1 << 63  # + epoch
_VIDEO_STREAM = 3 << 62  # + a class and its round
_ROUND_BITS = 40


def generator(seed: int, stream: int) -> np.random.Generator:
    """A generator whose numbers depend on `seed` and `stream` alone.

    Philox is keyed by both, so any stream of any step is reached without drawing those before it.
    """
    return np.random.Generator(np.random.Philox(key=seed % 2**64 + (stream << 64)))


@lru_cache(maxsize=4)  # batches are made ahead, so two epochs may be in use at once
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [count]: the order of an epoch's rows."""
    return generator(seed, _EPOCH_STREAM + epoch).permutation(count)


def video_stream(label: int, turn: int) -> int:
    """The stream of the order in which a class's videos come for the `turn`-th time, from 0."""
    return _VIDEO_STREAM + (label << _ROUND_BITS) + turn
