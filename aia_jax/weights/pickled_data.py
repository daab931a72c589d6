"""Reads the plain values of a pickle; nothing that a pickle names is imported or called.

A pickle is a small program that may name any function of any module and call it with any arguments.
Here a name stands for an entry of a table or is refused, so that what runs is code of this file
and of `pickled_types` only.
"""

import io
import mmap
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from aia_jax.errors import shorten
from aia_jax.weights.pickle_limits import LimitExceeded, Limits
from aia_jax.weights.pickled_types import Builder, Opaque, Stateful

_MOST_STEPS = 5_000_000  # of a pickle's program; an optimizer's state of a ResNet-50 needs 20,000
# Names that Python 2, an earlier NumPy and protocols before 3 have for the same thing.
_MOVED = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy._core": "numpy.core"}


class PickleError(ValueError):
    """A pickle is damaged, or does what no pickled data does."""


class ForeignName(PickleError):
    """A pickle names a function or class that is not in the table; `args[0]` is its full name."""


def read_pickle(
    file: io.BytesIO | mmap.mmap,
    names: Mapping[str, Any],
    load_persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle, from the file's position up to the pickle's end.

    Args:
        file: in memory or mapped into it: a read that asks for too much reserves nothing.
        names: full name, such as "collections.OrderedDict", → what it stands for: a `Builder`,
            which makes a value of the arguments of a call, or any other value.
        load_persistent: makes a value of a persistent id; None: the pickle may have none.

    Returns:
        Of dicts, lists, tuples, sets, texts, bytes, numbers, bool, None and what `names` stands
        for. Containers may hold themselves.

    Raises:
        ForeignName: for a name that is not in the table.
        PickleError: for everything else that is wrong, and for a pickle that makes far more than
            its length shows (see `pickle_limits`).
    """
    machine = _Machine(names, load_persistent, Limits(_count_rest(file)))
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if step > _MOST_STEPS:
                raise PickleError(f"its pickle has more than {_MOST_STEPS:,} steps")
            if opcode.name in _CONSTANTS:
                machine.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](machine, argument)
            elif opcode.name not in _NOTHING:
                raise PickleError(f"its pickle has a step {opcode.name}, which no data needs")
        (value,) = machine.stack
    except (PickleError, MemoryError):
        raise
    except LimitExceeded as error:
        raise PickleError(str(error)) from error
    except Exception as error:  # a stack that is empty, a name that was not stored, a wrong type
        reason = shorten(" ".join(str(error).split()))
        raise PickleError(f"its pickle makes no sense: {reason or type(error).__name__}") from error
    return value


def _count_rest(file: io.BytesIO | mmap.mmap) -> int:
    """The bytes from a file's position to its end."""
    place = file.tell()
    file.seek(0, io.SEEK_END)
    end = file.tell()
    file.seek(place)
    return end - place


class _Machine:
    """What the steps of a pickle work on.

    Attributes:
        stack: values.
        marks: lengths that the stack had at its marks.
        memo: values that the pickle refers to again, by number.
        limits: counts what the pickle makes.
    """

    def __init__(
        self,
        names: Mapping[str, Any],
        load_persistent: Callable[[Any], Any] | None,
        limits: Limits,
    ):
        self.names, self.load_persistent, self.limits = names, load_persistent, limits
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        """The last values of the stack, which go."""
        if not 0 <= count <= len(self.stack):
            raise PickleError("its pickle takes values that it did not make")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_mark(self) -> list[Any]:
        """The values above the last mark, which go with the mark."""
        return self.pop(len(self.stack) - self.marks.pop())

    def find(self, module: str, name: str) -> None:
        for old, new in _MOVED.items():
            if module == old or module.startswith(f"{old}."):
                module = new + module[len(old) :]
        full = f"{module}.{name}"
        if full not in self.names:
            raise ForeignName(full)
        self.push(self.names[full])

    def call(self) -> None:
        builder, arguments = self.pop(2)
        if not isinstance(builder, Builder) or not isinstance(arguments, tuple):
            raise PickleError(f"its pickle calls {_type_text(builder)}")
        self.limits.charge(arguments)
        if builder.find_keys is not None:
            for items in arguments:
                self.limits.check_keys(builder.find_keys(items))
        try:
            self.push(builder.build(*arguments))
        except (TypeError, ValueError, KeyError) as error:
            reason = shorten(" ".join(str(error).split()))
            raise PickleError(f"its pickle makes no {builder.name} ({reason})") from error

    def set_state(self, state: Any) -> None:
        value = self.stack[-1]
        if isinstance(value, Stateful):
            if isinstance(state, tuple):
                self.limits.charge(state)
            value.set_state(state)
        elif not isinstance(value, dict):  # of a dict the attributes are left: no data
            raise PickleError(f"its pickle sets the state of {_type_text(value)}")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise PickleError(f"its pickle sets items of {_type_text(target)}")
        self.limits.check_keys(items[::2])
        target.update(zip(items[::2], items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise PickleError(f"its pickle appends to {_type_text(target)}")
        target += items

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise PickleError(f"its pickle adds to {_type_text(target)}")
        self.limits.check_keys(items)
        target.update(items)

    def push_frozen_set(self) -> None:
        items = self.pop_mark()
        self.limits.check_keys(items)
        self.push(frozenset(items))

    def load(self) -> None:
        (identity,) = self.pop(1)
        if self.load_persistent is None:
            raise PickleError("its pickle refers to data outside of it")
        self.push(self.load_persistent(identity))


def _type_text(value: Any) -> str:
    return value.name if isinstance(value, Builder | Opaque) else f"a {type(value).__name__}"


def _mark(machine: _Machine, argument: Any) -> None:
    machine.marks.append(len(machine.stack))


def _store(machine: _Machine, argument: int | None) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


def _make_dict(machine: _Machine, argument: Any) -> None:
    items = machine.pop_mark()
    machine.push({})
    machine.set_items(items)


def _find_on_stack(machine: _Machine, argument: Any) -> None:
    module, name = machine.pop(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("its pickle has a name that is no text")
    machine.find(module, name)


# Steps that push their own argument, those that change nothing, and what the others do.
_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE")
_BYTES = ("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_CONSTANTS = frozenset([*_INTEGERS, "FLOAT", "BINFLOAT", *_TEXTS, *_BYTES])
_NOTHING = frozenset(["PROTO", "FRAME", "STOP"])
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BYTEARRAY8": lambda machine, value: machine.push(bytes(value)),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "MARK": _mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "LIST": lambda machine, _: machine.push(machine.pop_mark()),
    "DICT": _make_dict,
    "FROZENSET": lambda machine, _: machine.push_frozen_set(),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "POP": lambda machine, _: machine.pop(1) and None,
    "POP_MARK": lambda machine, _: machine.pop_mark() and None,
    "PUT": _store,
    "BINPUT": _store,
    "LONG_BINPUT": _store,
    "MEMOIZE": _store,
    "GET": lambda machine, number: machine.push(machine.memo[number]),
    "BINGET": lambda machine, number: machine.push(machine.memo[number]),
    "LONG_BINGET": lambda machine, number: machine.push(machine.memo[number]),
    "GLOBAL": lambda machine, names: machine.find(*names.split(" ", 1)),
    "STACK_GLOBAL": _find_on_stack,
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.set_state(machine.pop(1)[0]),
    "BINPERSID": lambda machine, _: machine.load(),
}
