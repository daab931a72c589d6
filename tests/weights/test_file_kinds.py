"""What a downloaded file is that holds no weights, or weights of another framework."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.weights.file_kinds import find_other_content
from aia_jax.weights.state_dict_files import read_state_dict_file


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"{}")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return content.getvalue()


def single_array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.ones(3))
    return content.getvalue()


KINDS = [
    (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x80\x01", "an ONNX model"),
    (b"\x08\x07:\xc1\xb2\x03\n\x1d", "an ONNX model"),
    (b"\x08\x01\x12\x9e\xd4\x02\x0a", "a SavedModel of TensorFlow"),
    (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file (Keras)"),
    (zipped("metadata.json"), "a model of Keras"),
    (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite model"),
    (b"\x81\xa6params\x82", "a msgpack file (Flax)"),
    (b"\0\x01" * 50 + bytes.fromhex("57fb808b247547db"), "a checkpoint of TensorFlow"),
    (b"GGUF\x03\0\0\0", "a GGUF file"),
    (b"BZh91AY&SY", "packed with bzip2; unpack it first"),
    (b"\xfd7zXZ\0", "packed with xz; unpack it first"),
    (tarred(), "a tar archive; unpack it and give the checkpoint in it"),
    (b"%PDF-1.7\n", "a PDF document"),
    (b'{"metadata": {}, "weight_map": {"a": "b"}}', "the index of a model in several files"),
    (b'{"error": "Quota exceeded"}', 'a text that begins with \'{"error"'),
    (b"   \xef\xbb\xbf\n<?xml version='1.0'?><Error>", "a web page (HTML or XML)"),
    (single_array(), "a single array of NumPy's"),
]


@pytest.mark.parametrize(("content", "words"), KINDS, ids=[words for _, words in KINDS])
def test_other_frameworks_and_packings_are_named(tmp_path, content, words):
    for ending in ("pth", "safetensors", "bin", "npz"):
        path = tmp_path / f"net.{ending}"
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_state_dict_file(path)
        assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.onnx", "an ONNX model by its name"),
        ("model.ckpt.data-00000-of-00001", "a checkpoint of TensorFlow by its name"),
        ("frozen.PB", "a graph of TensorFlow by its name"),
        ("net.pdparams", "a file of PaddlePaddle by its name"),
        ("net.caffemodel", "a model of Caffe by its name"),
    ],
)
def test_names_tell_what_bytes_do_not(tmp_path, name, words):
    (tmp_path / name).write_bytes(bytes(range(200, 250)))
    assert words in find_other_content(tmp_path / name)


def test_a_download_that_was_broken_off_says_how_much_is_there(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match="has no end after 9,000 bytes, as a download that was"):
        read_state_dict_file(path)


def test_an_archive_of_something_else_says_of_what(tmp_path):
    (tmp_path / "net.pth").write_bytes(zipped("net/readme.txt"))
    with pytest.raises(UserError, match=r"it is an archive of net/readme\.txt"):
        read_state_dict_file(tmp_path / "net.pth")


@pytest.mark.parametrize("ending", ["pth", "pt", "tar", "ckpt", "bin", "pkl"])
def test_weights_are_no_other_content(tmp_path, ending):
    path = tmp_path / f"net.{ending}"
    for older in (False, True):
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=not older)
        assert find_other_content(path) is None
        assert read_state_dict_file(path).arrays["a"].tolist() == [1, 1]
