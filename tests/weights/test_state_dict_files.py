"""Files of safetensors, files that are something else, and mutated files of every format."""

import io
import json
import random
import struct
import tracemalloc

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

from aia_jax import create_model
from aia_jax.errors import UserError
from aia_jax.weights import load_matching
from aia_jax.weights.files import write_state_dict
from aia_jax.weights.recognise import recognise
from aia_jax.weights.safetensors_files import read_class_names, write_safetensors
from aia_jax.weights.state_dict_files import read_state_dict_file
from tests.helpers import torch_nets


def refusal(path, read=read_state_dict_file) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty; download or copy it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><title>404</title>", "a web page (HTML or XML)"),
        (b"Copyright \xc2\xa9 2019\nAll rights reserved.\n" * 30, "begins with 'Copyright ©"),
        (b"\x1f\x8b\x08\0\0\0", "packed with gzip; unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_files_that_hold_no_weights_are_named(tmp_path, content, words, ending):
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content)
    assert words in refusal(path)


def test_a_file_of_the_other_format_is_named(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "net.safetensors")
    assert "it is a file of torch.save; name it .pth" in refusal(tmp_path / "net.safetensors")
    safetensors.numpy.save_file({"a": np.ones(2, "f4")}, tmp_path / "net.pth")
    assert "name it .safetensors" in refusal(tmp_path / "net.pth")


ARRAY = '"dtype": "F32", "shape": [4], "data_offsets"'


EMPTY = '"dtype": "F32", "shape": [0, 9223372036854775807], "data_offsets": [0, 0]'
FLOAT8 = '"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]'


@pytest.mark.parametrize(
    ("header", "size", "words"),
    [
        (f'{{"a": {{{ARRAY}: [0, 16]}}, "b": {{{ARRAY}: [8, 24]}}}}', 24, "invalid offset"),
        (f'{{"a": {{{ARRAY}: [0, 16]}}, "b": {{{ARRAY}: [20, 36]}}}}', 36, "invalid offset"),
        (f'{{"a": {{{ARRAY}: [0, 16]}}, "a": {{{ARRAY}: [0, 16]}}}}', 16, "has the key a twice"),
        (f'{{"\\ud800": {{{ARRAY}: [0, 16]}}}}', 16, "cannot be read as safetensors"),
        (f'{{"a\\nb": {{{ARRAY}: [0, 16]}}}}', 16, r"an array under 'a\nb', and no network"),
        (f'{{"a": {{{ARRAY}: [0, {"9" * 5000}]}}}}', 16, "cannot be read as safetensors"),
        ("[" * 100_000, 16, "cannot be read as safetensors"),
        (f'{{"a.b": {{{FLOAT8}}}}}', 16, "a.b holds numbers of a type that NumPy does not know"),
        (f'{{"e": {{{EMPTY}}}}}', 0, "e: array is too big"),
    ],
)
def test_headers_that_lie(tmp_path, header, size, words):
    content = header.encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(size))
    assert words in refusal(path)


@pytest.mark.parametrize("text", ["[", "3", '{"a": 1}', '["a", 3]', "[" * 100_000])
def test_class_names_that_are_none(tmp_path, text):
    path = tmp_path / "net.safetensors"
    write_state_dict(path, {"a": np.ones(2, "f4")}, ["a", "\ud800"])
    assert read_class_names(path) == ("a", "\ud800")
    metadata = {"aia_jax.class_names": text}
    safetensors.numpy.save_file({"a": np.ones(2, "f4")}, path, metadata)
    assert "not a list of names; write the file again" in refusal(path, read_class_names)


NET = {"width": 2, "stage_sizes": (1,), "stem": "small", "fold_div": 2, "attention": "C"}
MODEL = create_model(3, **NET)


@pytest.fixture(scope="module")
def contents():
    """Format → the bytes of a file with the weights of one net."""
    net = torch_nets.randomise(torch_nets.VideoNet(3, **NET), seed=1).float()
    files = {}
    for name, zipped in (("zip.pth", True), ("legacy.pth", False)):
        content = io.BytesIO()
        packed = {"epoch": 1, "state_dict": net.state_dict()}
        torch.save(packed, content, _use_new_zipfile_serialization=zipped)
        files[name] = content.getvalue()
    arrays = {key: value.numpy() for key, value in net.state_dict().items()}
    names = {"aia_jax.class_names": json.dumps(["a", "b", "c"])}
    files["net.safetensors"] = safetensors.numpy.save(arrays, names)
    return files


def mutate(content: bytes, rng: random.Random) -> bytes:
    """The content cut, or with a few bytes changed: most of them where the structure is."""
    if rng.random() < 0.1:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.choice(
            [rng.randrange(3000), rng.randrange(len(content)), -rng.randrange(1, 99)]
        )
        changed[place] = rng.choice([changed[place] ^ 1 << rng.randrange(8), rng.randrange(256)])
    return bytes(changed)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "net.safetensors"])
def test_a_mutated_file_is_refused_or_gives_finite_numbers(tmp_path, contents, name):
    """Any other exception fails. Where the file has checksums, the numbers are the saved ones."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), np.zeros((1, 2, 8, 8, 3), "f4"))
    fresh = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f4"), shapes)
    path = tmp_path / name

    def load(content):
        path.write_bytes(content)
        state_dict = read_state_dict_file(path).arrays
        recognise(state_dict)
        return jax.tree.leaves(load_matching(state_dict, fresh, MODEL)[0])

    saved, rng, refused = load(contents[name]), random.Random(22), 0
    for _ in range(100):
        try:
            leaves = load(mutate(contents[name], rng))
        except UserError:
            refused += 1
            continue
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        if name == "zip.pth":
            assert all(map(np.array_equal, leaves, saved))
    assert refused > 50


def test_what_lies_beside_the_weights_is_not_read(tmp_path):
    """An optimizer's state, and the other of two state dicts, take no memory."""
    one, other = torch.ones(1000, 100), torch.ones(1000, 1000)
    content = {"state_dict": {"a.b": one, "a.c": one[:5]}, "other": {"a.b": other}}
    content["optimizer"] = {"state": {0: {"exp_avg": torch.zeros(3000, 1000)}}}
    for older in (False, True):
        torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=not older)
        tracemalloc.start()
        try:
            arrays = read_state_dict_file(tmp_path / "net.pth").arrays
            assert tracemalloc.get_traced_memory()[1] < 1.1 * 4 * one.numel() + 2e6
        finally:
            tracemalloc.stop()
        assert arrays["a.b"].shape == (1000, 100) and arrays["a.c"].base is arrays["a.b"].base


def test_arrays_are_written_as_the_library_writes_them(tmp_path):
    arrays = {
        "b": np.arange(6, dtype="f4").reshape(2, 3).T,
        "a": np.arange(3, dtype=">f4"),
        "number": np.zeros((), "i8"),
        "half": np.ones(3, "f2"),
        "empty": np.ones((0, 3), "f4"),
        "é": np.ones(1, "u1"),
    }
    with (tmp_path / "net.safetensors").open("wb") as file:
        write_safetensors(file, arrays, {"format": "pt"})
    content = (tmp_path / "net.safetensors").read_bytes()
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    assert content == safetensors.numpy.save(
        contiguous | {"number": arrays["number"]}, {"format": "pt"}
    )
