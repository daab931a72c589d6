"""What one pickle may make: a small file must fill neither the memory nor hours.

A pickle refers to a value again in two bytes. A call that copies the value, or a dict that takes
its hash, then costs more than the file shows, so both are counted.
"""

from collections.abc import Iterable
from typing import Any

from aia_jax.weights.pickled_types import Opaque

_MOST_ITEMS = 5_000_000  # of containers that calls are given; a ResNet-50's file has 5,000
# Bytes that calls are given: a text of a NumPy array goes through two of them.
_LEAST_BYTES, _BYTES_PER_BYTE = 1 << 26, 4
_DEEPEST_KEY = 4  # tuples in tuples that may be a dict's key
_MOST_IN_KEY = 64  # values in such tuples
# Whole numbers further from 0 may share their hashes (a remainder by 2**61 - 1); an optimizer's
# keys, addresses in the memory, are below it.
_LARGEST_KEY = 1 << 53
# Keys that are numbers or tuples: a stranger can choose them so that each is compared with all
# others. ImageNet-21k's classes are 21,843.
_MOST_NUMBER_KEYS = 100_000
_CONTAINERS = (list, tuple, dict, set, frozenset)
_KEYS = str | bytes | int | float | complex | Opaque | None


class LimitExceeded(Exception):
    """A pickle makes more than data needs; the text says what."""


class Limits:
    """Counts what a pickle makes.

    Args:
        size: bytes of the pickle.
    """

    def __init__(self, size: int):
        self.bytes_left = _LEAST_BYTES + _BYTES_PER_BYTE * size
        self.items_left = _MOST_ITEMS
        self.number_keys_left = _MOST_NUMBER_KEYS

    def charge(self, values: tuple[Any, ...]) -> None:
        """Counts the values that a call is given, before it may copy what is in them.

        Raises:
            LimitExceeded: all calls together were given too much.
        """
        self.items_left -= len(values)
        for value in values:
            if isinstance(value, str | bytes):
                self.bytes_left -= len(value)
            elif isinstance(value, _CONTAINERS):
                self.items_left -= len(value)
        if self.items_left < 0 or self.bytes_left < 0:
            raise LimitExceeded("its pickle copies its own values again and again")

    def check_keys(self, keys: Iterable[Any]) -> None:
        """Lets values pass that may be a dict's keys; the hash of others might never end.

        Raises:
            LimitExceeded: for another value, or for too many that are no texts.
        """
        for key in keys:
            if isinstance(key, str | bytes):
                continue
            self.number_keys_left -= 1
            if self.number_keys_left < 0:
                raise LimitExceeded(
                    f"its pickle has more than {_MOST_NUMBER_KEYS:,} keys that are no texts"
                )
            _check_key(key)


def _check_key(key: Any) -> None:
    level, count = [key], 0  # the values in tuples of one depth
    for depth in range(_DEEPEST_KEY + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, tuple) and depth < _DEEPEST_KEY:
                count += len(item)
                if count > _MOST_IN_KEY:
                    raise LimitExceeded(f"its pickle has a key of more than {_MOST_IN_KEY} values")
                inner += item
            elif not isinstance(item, _KEYS):
                raise LimitExceeded(f"its pickle has a {type(item).__name__} as a key")
            elif isinstance(item, int) and abs(item) > _LARGEST_KEY:
                raise LimitExceeded("its pickle has a number beyond 2**53 as a key")
        level = inner
