"""PyTorch's tensors as they are pickled: which numbers of a file they are, and in which order."""

import dataclasses
import math
from typing import Any

import ml_dtypes
import numpy as np

from aia_jax.weights.pickled_types import Builder, NumpyArray, Opaque

# Class of a storage, without "torch." and "Storage" → type of its numbers.
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
}
_UNTYPED = "torch.storage.UntypedStorage"  # its size counts bytes
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
_DTYPES = (*_STORAGES.values(), "uint16", "uint32", "uint64", *_FLOAT8)
# Types that NumPy knows; all other ones are refused with the key of the tensor.
_NUMPY = {name: np.dtype(name) for name in _DTYPES if hasattr(np, name)}
_NUMPY["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
# PyTorch's numbers of one or more bytes that NumPy lacks, for files that say no bytes.
_SIZES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers of a file that one or more tensors show.

    Attributes:
        key: its name in the file.
        dtype: PyTorch's name of their type.
        size: how many there are.
        start: the first of them, where the storage is a part of the one of that name.
    """

    key: str
    dtype: str
    size: int
    start: int = 0

    @property
    def item_size(self) -> int:
        """Bytes of a number."""
        return _NUMPY[self.dtype].itemsize if self.dtype in _NUMPY else _SIZES.get(self.dtype, 1)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor whose numbers are still in the file.

    Attributes:
        storage: holds its numbers.
        dtype: PyTorch's name of their type.
        offset, shape, strides: which they are, counted in numbers.
        changes: "conj" and "neg", of which PyTorch computes the values when they are asked for.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    changes: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """What it holds, where NumPy cannot hold it; None for all other tensors."""
        return None if self.dtype in _NUMPY else f"numbers of torch.{self.dtype}"

    def as_array(self, content: np.ndarray, byte_order: str) -> np.ndarray:
        """Its numbers, without a copy unless it is a complex conjugate or negated.

        Args:
            content: the bytes of its storage, uint8.
            byte_order: of the file, "little" or "big".
        """
        dtype = _NUMPY[self.dtype].newbyteorder("<" if byte_order == "little" else ">")
        first, numbers = self.offset + self.storage.start, math.prod(self.shape)
        last = first + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if numbers and (last + 1) * dtype.itemsize > content.size:
            raise ValueError(f"it has {content.size} bytes and is to have more")
        if self.changes and numbers * dtype.itemsize > content.size:
            raise ValueError("it has more numbers than its storage")
        if not numbers:
            return np.empty(self.shape, dtype)
        steps = tuple(step * dtype.itemsize for step in self.strides)
        start = first * dtype.itemsize
        array = np.ndarray(self.shape, dtype, content, start, steps)
        for change in self.changes:
            array = np.conj(array) if change == "conj" else -array
        return array


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A tensor that no array can stand for.

    Attributes:
        problem: what it is.
    """

    problem: str
    shape: tuple[int, ...] = ()


def load_storage(identity: Any) -> Storage:
    """Makes the storage of a persistent id.

    Raises:
        ValueError: the id is of no storage.
    """
    if not isinstance(identity, tuple) or len(identity) > 6:
        raise ValueError("a reference to something else than numbers")
    kind, storage_class, key, _, size, *view = identity
    start = 0
    if view and view[0] is not None:  # before PyTorch 0.4, a part of another storage
        _, start, size = view[0]
    if kind != "storage" or not isinstance(storage_class, Opaque):
        raise ValueError("a reference to something else than numbers")
    if not isinstance(key, str) or not _are_counts((size, start)):
        raise ValueError("a storage without a name or size")
    if storage_class.name == _UNTYPED:
        return Storage(key, "uint8", size, start)
    name = storage_class.name.removeprefix("torch.").removesuffix("Storage")
    return Storage(key, _STORAGES[name], size, start)


def _are_counts(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= 32
        and all(type(n) is int and 0 <= n < 1 << 60 for n in values)
    )


def _make_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, dtype: str, changes: Any
) -> Tensor:
    if not isinstance(storage, Storage) or not _are_counts((offset,)):
        raise ValueError("a tensor without numbers")
    if not isinstance(shape, tuple) or len(shape) > 32:
        raise ValueError("the shape of a tensor")
    if not _are_counts(shape) or not _are_counts(strides) or len(shape) != len(strides):
        raise ValueError("the shape of a tensor")
    changes = changes if isinstance(changes, dict) else {}
    names = tuple(name for name in ("conj", "neg") if changes.get(name))
    return Tensor(storage, dtype, offset, shape, strides, names)


def _rebuild(storage, offset, shape, strides, gradient=False, hooks=None, changes=None) -> Tensor:
    return _make_tensor(storage, offset, shape, strides, storage.dtype, changes)


def _rebuild_of_type(storage, offset, shape, strides, gradient, hooks, dtype, changes=None):
    if not isinstance(dtype, Opaque):
        raise ValueError("a tensor without a type")
    name = dtype.name.removeprefix("torch.")
    return _make_tensor(storage, offset, shape, strides, name, changes)


def _make_size(sizes: Any = ()) -> tuple[Any, ...]:
    if not isinstance(sizes, list | tuple):
        raise ValueError("sizes that are no list")
    return tuple(sizes)


def _rebuild_quantised(storage, *_) -> Unreadable:
    return Unreadable(f"a quantised tensor (torch.{storage.dtype})")


def _rebuild_of_class(builder, cls, arguments, state) -> Any:
    if not isinstance(builder, Builder) or builder.name not in _BUILD:
        raise ValueError("a tensor of something else")
    return builder.build(*arguments)


_BUILD = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_of_type,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._utils._rebuild_device_tensor_from_numpy": lambda data, *_: data,
    "torch._utils._rebuild_xla_tensor": lambda data, *_: data,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda data, *_: data,
    "torch._utils._rebuild_qtensor": _rebuild_quantised,
    "torch._utils._rebuild_sparse_tensor": lambda *_: Unreadable("a sparse tensor"),
    "torch._utils._rebuild_nested_tensor": lambda *_: Unreadable("a nested tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": lambda *_: Unreadable(
        "a tensor without numbers (on the device meta)"
    ),
    "torch._utils._rebuild_wrapper_subclass": lambda *_: Unreadable("a tensor of a subclass"),
}
_OPAQUE_CALLS = ("torch.device", "torch.serialization._get_layout")
_OPAQUE = (
    *(f"torch.{name}Storage" for name in _STORAGES),
    *(f"torch.{name}" for name in _DTYPES),
    *(f"torch.per_{kind}_affine" for kind in ("tensor", "channel")),
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    _UNTYPED,
)

TORCH: dict[str, Any] = {
    **{name: Opaque(name) for name in _OPAQUE},
    **{name: Builder(name, lambda *_, name=name: Opaque(name)) for name in _OPAQUE_CALLS},
    **{name: Builder(name, build) for name, build in _BUILD.items()},
    "torch.Size": Builder("torch.Size", _make_size),
    "torch._tensor._rebuild_from_type_v2": Builder(
        "torch._tensor._rebuild_from_type_v2", _rebuild_of_class
    ),
}


def is_array(value: Any) -> bool:
    """Whether a value is a tensor of a file, or an array of NumPy's, pickled or not."""
    return isinstance(value, Tensor | Unreadable | np.ndarray) or (
        isinstance(value, NumpyArray) and isinstance(value.value, np.ndarray)
    )
