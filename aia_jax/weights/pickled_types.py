"""The types of pickled data that are read, as a table of their full names.

They are what training programs store beside weights: containers, NumPy's numbers, times, paths, the
options of a command line, and the log of mmengine. None of it is needed to convert weights, so most
of it becomes a value that only knows its name.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

_TYPE = re.compile(r"[<>=|]?([biufc?]\d{0,2}|[SU]\d{1,6}|O8?)")  # NumPy's types of plain values

_MOST_AXES = 64  # of an array of NumPy's


@dataclasses.dataclass(frozen=True)
class Builder:
    """Stands for a function or class: a call of it in a pickle makes a value by `build`.

    Attributes:
        name: its full name.
        build: takes the arguments of the call; raises TypeError, ValueError or KeyError for wrong
            ones.
        find_keys: the values of an argument that `build` makes keys of a dict or values of a set;
            None: it makes neither.
    """

    name: str
    build: Callable[..., Any]
    find_keys: Callable[[Any], Iterable[Any]] | None = None


class Stateful:
    """A value whose state a pickle may set after it has made the value."""

    def set_state(self, state: Any) -> None:
        raise NotImplementedError


class Opaque(Stateful):
    """A value of which only the name of its type is known; its state is left.

    Attributes:
        name: the full name.
    """

    def __init__(self, name: str):
        self.name = name

    def set_state(self, state: Any) -> None:
        pass


class NumpyType(Stateful):
    """A type of NumPy's.

    Attributes:
        value: the type.
    """

    def __init__(self, text: Any, align: bool = False, copy: bool = False):
        if not isinstance(text, str) or not _TYPE.fullmatch(text):
            found = repr(text[:40]) if isinstance(text, str) else f"a {type(text).__name__}"
            raise ValueError(f"type {found}")
        self.value = np.dtype(text)

    def set_state(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("byte order of a type")
        self.value = self.value.newbyteorder(order)


class NumpyArray(Stateful):
    """An array of NumPy's.

    Attributes:
        value: the array, or the list of its values where they are objects.
    """

    def __init__(self, value: Any = ()):
        self.value = value

    def set_state(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = _make_array(content, dtype, shape, "F" if is_fortran else "C")


def as_plain(value: Any) -> Any:
    """A value of a pickle as Python's or NumPy's own."""
    return value.value if isinstance(value, NumpyArray) else value


def _make_array(content: Any, dtype: Any, shape: Any, order: str) -> Any:
    if not isinstance(dtype, NumpyType) or order not in ("C", "F"):
        raise ValueError("an array without a type")
    if dtype.value.hasobject:
        if not isinstance(content, list):
            raise ValueError("an array of objects without its values")
        return content
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
        raise ValueError("the shape of an array")
    if not all(type(n) is int and 0 <= n < 1 << 60 for n in shape):
        raise ValueError("the shape of an array")
    if not dtype.value.itemsize and math.prod(shape) > 1:  # an empty text alone is one value
        raise ValueError("an array of values of 0 bytes, which may be any number of them")
    content = _as_bytes(content)
    if len(content) != math.prod(shape) * dtype.value.itemsize:
        raise ValueError(f"{len(content)} bytes for an array {list(shape)} of {dtype.value}")
    if not content:
        return np.empty(shape, dtype.value)
    return np.frombuffer(content, dtype.value).reshape(shape, order=order)


def _make_scalar(dtype: Any, content: Any = b"") -> Any:
    if isinstance(dtype, NumpyType) and dtype.value.hasobject:
        return content
    return _make_array(content, dtype, (), "C").item()


def _reconstruct(cls: Any, shape: Any, code: Any) -> NumpyArray:
    if not isinstance(cls, Opaque) or cls.name != "numpy.ndarray":
        raise ValueError("an array of another class")
    return NumpyArray()  # its state follows


def _as_bytes(text: Any, encoding: str = "latin1") -> bytes:
    """Bytes; protocols before 3 write them as a text."""
    if isinstance(text, str) and encoding in ("latin1", "latin-1"):
        return text.encode("latin1")
    if not isinstance(text, bytes):
        raise ValueError("bytes that are none")
    return text


def _get_method(owner: Any, name: Any) -> Opaque:
    """mmengine's log refers to methods of its own class; `getattr` of anything else is refused."""
    if not isinstance(owner, Builder) or owner.name != _HISTORY or not isinstance(name, str):
        raise ValueError("an attribute of something else than mmengine's log")
    return Opaque(f"{_HISTORY}.{name}")


def _make_dict(items: Any = (), *more: Any) -> dict[Any, Any]:
    """A dict of a dict or of pairs; keys are texts and numbers."""
    pairs = list(items.items()) if isinstance(items, dict) else list(items)
    if more or not all(isinstance(pair, tuple | list) for pair in pairs):
        raise ValueError("items that are no pairs")
    if not all(isinstance(key, str | int | float) for key, _ in pairs):
        raise ValueError("keys that are no texts or numbers")
    return dict(pairs)


def _find_dict_keys(items: Any) -> Iterable[Any]:
    """What `_make_dict` makes keys of an argument."""
    if isinstance(items, dict):
        return items
    pairs = items if isinstance(items, list | tuple | set | frozenset) else ()
    return [pair[0] for pair in pairs if isinstance(pair, tuple | list) and pair]


def _make_items(kind: type, items: Any = ()) -> Any:
    """A list, tuple or set of a list or tuple; a set's values are texts and numbers."""
    if not isinstance(items, list | tuple):
        raise ValueError("items that are no list")
    if kind in (set, frozenset) and not all(isinstance(x, str | int | float) for x in items):
        raise ValueError("values of a set that are no texts or numbers")
    return kind(items)


def _find_set_values(items: Any) -> Iterable[Any]:
    """What `_make_items` makes values of a set of."""
    return items if isinstance(items, list | tuple) else ()


_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"

_PATHLIB = ("pathlib", "pathlib._local")  # the second in Python 3.13
_PATHS = ("Posix", "Windows", "PurePosix", "PureWindows")
# Made as a value that knows its name only.
_OPAQUE = (
    _HISTORY,
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"{module}.{name}Path" for module in _PATHLIB for name in _PATHS),
    *(f"builtins.{name}" for name in ("complex", "slice", "range", "xrange")),
    "argparse.Namespace",
)
# Dicts of libraries for configs.
_DICTS = (
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.dict",
    "addict.addict.Dict",
    "easydict.EasyDict",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "yacs.config.CfgNode",
)
_NUMBERS = ("bool_", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
_NUMBERS += ("uint64", "float16", "float32", "float64", "complex64", "complex128", "str_")
# The classes themselves, which may be values or arguments.
_CLASSES = (
    *(f"numpy.{name}" for name in ("ndarray", *_NUMBERS)),
    *(f"builtins.{name}" for name in ("int", "float", "str", "bool")),
)
_BUILD: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_DICTS, _make_dict),
    "collections.defaultdict": lambda factory=None, items=(): _make_dict(items),
    "collections.deque": lambda items=(), length=None: _make_items(list, items),
    "builtins.list": lambda items=(): _make_items(list, items),
    "builtins.tuple": lambda items=(): _make_items(tuple, items),
    "builtins.set": lambda items=(): _make_items(set, items),
    "builtins.frozenset": lambda items=(): _make_items(frozenset, items),
    "builtins.bytes": lambda text=b"", encoding="latin1": _as_bytes(text, encoding),
    "builtins.bytearray": lambda text=b"", encoding="latin1": _as_bytes(text, encoding),
    "builtins.getattr": _get_method,
    "_codecs.encode": _as_bytes,
    "numpy.dtype": NumpyType,
    "numpy.core.multiarray.scalar": _make_scalar,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": lambda content, dtype, shape, order: NumpyArray(
        _make_array(content, dtype, shape, order)
    ),
}
_FIND_KEYS: dict[str, Callable[[Any], Iterable[Any]]] = {
    **dict.fromkeys((*_DICTS, "collections.defaultdict"), _find_dict_keys),
    **dict.fromkeys(("builtins.set", "builtins.frozenset"), _find_set_values),
}

DATA: dict[str, Any] = {
    **{name: Opaque(name) for name in _CLASSES},
    **{name: Builder(name, lambda *_, name=name: Opaque(name)) for name in _OPAQUE},
    **{name: Builder(name, build, _FIND_KEYS.get(name)) for name, build in _BUILD.items()},
}
