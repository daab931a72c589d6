"""Pickles: data comes back, everything else is refused by its name, and nothing of it runs."""

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from aia_jax.weights import pickle_limits
from aia_jax.weights.pickled_data import ForeignName, PickleError, read_pickle
from aia_jax.weights.pickled_types import DATA, Opaque, as_plain


def read(content: bytes):
    return read_pickle(io.BytesIO(content), DATA)


PLAIN = [
    *(None, True, False, 0, -1, 255, 65_536, 1 << 70, -(1 << 70), 1.5, float("inf")),
    *(
        "",
        "a",
        "é" * 300,
        b"",
        b"abc",
        [],
        [1, "a", [2]],
        (),
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
    ),
    *({}, {"a": 1, 2: (3,)}, {(1, ("a", 2)): 3}, {1, 2}, frozenset(["a"])),
    *(np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")),
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back(protocol):
    for value in PLAIN:
        found = read(pickle.dumps(value, protocol))
        assert found == value and type(found) is type(getattr(value, "item", lambda v=value: v)())
    shared = [1]
    found = read(pickle.dumps({"a": shared, "b": shared}, protocol))
    assert found["a"] is found["b"]
    shared.append(shared)
    found = read(pickle.dumps(shared, protocol))
    assert found[1] is found


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_numpy_come_back(protocol):
    for array in (
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.ones((0, 3), "f4"),
        np.array(["a", "bc"]),
        np.array(3 + 1j),
    ):
        found = as_plain(read(pickle.dumps(array, protocol)))
        np.testing.assert_array_equal(found, array)
        assert found.shape == array.shape and found.dtype == array.dtype
    assert as_plain(read(pickle.dumps(np.array([1, "a"], object), protocol))) == [1, "a"]


def test_containers_and_things_of_which_only_the_name_is_known():
    counter, ordered = collections.Counter("aab"), collections.OrderedDict(b=1, a=[2])
    assert read(pickle.dumps(counter)) == {"a": 2, "b": 1}
    assert list(read(pickle.dumps(ordered)).items()) == [("b", 1), ("a", [2])]
    assert read(pickle.dumps(collections.defaultdict(list, a=[1]))) == {"a": [1]}
    assert read(pickle.dumps(collections.deque([1, 2], maxlen=3))) == [1, 2]
    assert read(pickle.dumps(bytearray(b"ab"), 2)) == b"ab"
    for value, name in (
        (datetime.datetime(2023, 1, 1, tzinfo=datetime.UTC), "datetime.datetime"),
        (datetime.timedelta(3), "datetime.timedelta"),
        (argparse.Namespace(lr=0.1, path="x"), "argparse.Namespace"),
        (pathlib.PurePosixPath("a/b"), "pathlib.PurePosixPath"),
        (range(3), "builtins.range"),
        (np.float32, "numpy.float32"),
    ):
        for protocol in (2, 4):
            found = read(pickle.dumps(value, protocol))
            assert isinstance(found, Opaque) and found.name in (name, "builtins.xrange")


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.content = function, arguments

    def __reduce__(self):
        return self.content


class Foreign:
    """A class that no table has."""


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_foreign_names_are_refused_in_full_and_do_not_run(tmp_path, protocol):
    path = tmp_path / "it_ran"
    foreign = f"{__name__}.Foreign" if protocol > 1 else "copyreg._reconstructor"
    for value, name in (
        (Call(pathlib.Path.touch, path), "pathlib.Path.touch" if protocol == 4 else None),
        (Call(eval, "1"), "builtins.eval"),
        (Call(open, str(path), "w"), "io.open"),
        (Call(np.load, str(path)), "numpy.load"),
        (Foreign(), foreign),
        (Foreign, f"{__name__}.Foreign"),
        ([1, {"a": (eval, 2)}], "builtins.eval"),
    ):
        with pytest.raises(PickleError) as caught:
            read(pickle.dumps(value, protocol))
        assert name is None or isinstance(caught.value, ForeignName)
        assert name is None or name in caught.value.args[0]
    assert not path.exists()


@pytest.mark.parametrize(
    "value",
    [
        Call(getattr, "text", "format"),
        Call(getattr, np.ndarray, "tofile"),
        Call(getattr, collections.OrderedDict, "fromkeys"),
        Call(collections.OrderedDict, 3),
        Call(collections.OrderedDict, [("a",)]),
        Call(set, "abc"),
        Call(np.dtype, "O,O"),
        Call(np.dtype, "S99999999999"),
        Call(np.dtype, {"names": ["a"], "formats": ["O"]}),
    ],
)
def test_known_names_take_only_what_is_data(value):
    with pytest.raises(PickleError, match=r"makes no (builtins|collections|numpy)"):
        read(pickle.dumps(value, 2))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02NN.",
        b"\x80\x02(.",
        b"\x80\x02NR.",
        b"\x80\x02]Nb.",
        b"\x80\x02Nh\x07.",
        b"\x80\x02](N0t.",
        b"\x80\x02}]]s.",  # a list as a key
        b"\x80\x02}" + b")\x85" * 9 + b"Ns.",  # too deep a key
        b"\x80\x02}" + b")" + b"\x85" * 20_000 + b"Ns.",  # Python's hash would end the process
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        b"\x80\x02\x82\x01.",  # an extension of copyreg's registry
        b"\x80\x02I" + b"9" * 10_000 + b"\n.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02U\x02osU\x06system\x93.",
        b"\x80\x02(ios\nsystem\n.",
        b"\x80\x02Nq\x00Q.",
        b"\xff\xff",
    ],
)
def test_programs_that_make_no_sense_are_one_line(program):
    with pytest.raises(PickleError) as caught:
        read(program)
    assert "\n" not in str(caught.value)


def test_a_program_takes_no_more_memory_than_its_length_allows():
    huge = b"\x80\x02Nr\xff\xff\xff\x7f0" + b"]" * 3_000 + b"a" * 2_999 + b"."
    tracemalloc.start()
    try:
        read(huge)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


PUT, GET = b"q", b"h"
_LARGE = 1 << 20


def long(number: int) -> bytes:
    return b"\x8a\x09" + number.to_bytes(9, "little", signed=True)


def refused(program: bytes) -> str:
    with pytest.raises(PickleError) as caught:
        read(program)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_key_of_tuples_that_share_their_values_is_refused_before_its_hash_is_taken():
    levels = b"K\x01q\x000"
    for level in range(4):
        levels += b"(" + bytes([*GET, level]) * 1000 + b"t" + bytes([*PUT, level + 1]) + b"0"
    for program in (b"}" + levels + b"h\x04K\x01s.", levels + b"\x8f(h\x04\x90."):
        assert "a key of more than 64 values" in refused(b"\x80\x04" + program)
    assert read(pickle.dumps({tuple(range(64)): 1})) == {tuple(range(64)): 1}


@pytest.mark.parametrize("name", ["list", "tuple", "set", "frozenset", "dict"])
def test_calls_that_copy_one_container_again_and_again_are_refused(name, monkeypatch):
    monkeypatch.setattr(pickle_limits, "_MOST_ITEMS", 100_000)
    item = b"U\x01aK\x01\x86" if name == "dict" else b"U\x01a"
    program = b"cbuiltins\n" + name.encode() + b"\nq\x000(](" + item * 8_000 + b"etq\x010]("
    text = refused(b"\x80\x02" + program + b"h\x00h\x01R" * 100 + b"e.")
    assert text == "its pickle copies its own values again and again"


def test_calls_that_copy_one_text_again_and_again_are_refused():
    content = b"X" + _LARGE.to_bytes(4, "little") + b"a" * _LARGE
    program = b"\x80\x02c_codecs\nencode\nq\x000(" + content + b"tq\x010]("
    assert len(read(program + b"h\x00h\x01R" * 60 + b"e.")) == 60
    tracemalloc.start()
    try:
        text = refused(program + b"h\x00h\x01R" * 2_000 + b"e.")
        assert tracemalloc.get_traced_memory()[1] < 90 * _LARGE
    finally:
        tracemalloc.stop()
    assert text == "its pickle copies its own values again and again"


def test_keys_that_could_share_their_hashes_are_refused(monkeypatch):
    assert read(pickle.dumps({1 << 53: 1, -(1 << 53): 2})) == {1 << 53: 1, -(1 << 53): 2}
    key = long((1 << 61) - 1)
    pairs = b"](" + key + b"N\x86et"
    for program in (
        b"}" + key + b"Ns.",
        b"}" + key + b"\x85Ns.",
        b"(" + key + b"\x91.",
        b"cbuiltins\ndict\n(" + pairs + b"R.",
        b"ccollections\ndefaultdict\n(N" + pairs + b"R.",
        b"cbuiltins\nset\n(](" + key + b"etR.",
    ):
        assert "a number beyond 2**53 as a key" in refused(b"\x80\x04" + program)
    monkeypatch.setattr(pickle_limits, "_MOST_NUMBER_KEYS", 1_000)
    numbers = dict.fromkeys(range(1_001))
    for value in (
        numbers,
        set(numbers),
        collections.OrderedDict(numbers),
        [{0: 1}] * 2 + [numbers],
    ):
        assert "more than 1,000 keys that are no texts" in refused(pickle.dumps(value))
    assert len(read(pickle.dumps(dict.fromkeys(map(str, numbers))))) == 1_001


def test_arrays_of_values_of_no_bytes_are_refused():
    """They may say any number of values; one empty text of NumPy's is data."""
    assert read(pickle.dumps(np.str_(""))) == ""
    program = b"cnumpy.core.numeric\n_frombuffer\n(C\0cnumpy\ndtype\n(U\x02S0tR("
    for kind in (b"S0", b"U0"):
        made = program.replace(b"S0", kind) + long(1 << 38) + b"tU\x01CtR."
        assert "values of 0 bytes" in refused(b"\x80\x04" + made)


def test_every_mutilation_is_one_line_or_data():
    """Mutations of the program itself, which no checksum guards here."""
    value = {"a": [np.arange(3), np.float64(1), datetime.timedelta(3)], "b": ({1, 2}, 1 << 70)}
    good, rng, refused = pickle.dumps(value, 2), random.Random(3), 0
    for _ in range(600):
        program = bytearray(good)
        for _ in range(rng.choice([1, 1, 3])):
            place = rng.randrange(len(program))
            if rng.random() < 0.7:
                program[place] = rng.choice([rng.randrange(256), good[rng.randrange(len(good))]])
            else:
                program[place:place] = good[place : place + rng.randrange(40)]
        try:
            read(bytes(program))
        except PickleError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 400
    assert refused > 250
