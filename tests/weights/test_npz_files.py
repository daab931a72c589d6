"""NumPy's .npz files: every layout of an array, damage, and what is refused."""

import io
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from aia_jax.errors import UserError
from aia_jax.weights import archive
from aia_jax.weights.npz_files import read_npz
from aia_jax.weights.state_dict_files import read_state_dict_file

ARRAYS = {
    "Transformer/encoderblock_0/kernel": np.arange(24, dtype="f4").reshape(2, 3, 4),
    "embedding/bias": np.arange(5, dtype=">f4"),
    "cls": np.asfortranarray(np.arange(6, dtype="f2").reshape(2, 3)),
    "scalar": np.array(3.0),
    "empty": np.ones((0, 3), "f4"),
}


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "net.npz", **ARRAYS)
    return tmp_path / "net.npz"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_state_dict_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def save(path: Path, name: str = "a.npy", content: bytes | None = None, **options) -> None:
    """An archive of one record: an array, unless `content` says otherwise."""
    file = io.BytesIO()
    np.save(file, np.ones(3, "f4"))
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr(name, file.getvalue() if content is None else content)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_back_under_their_names(tmp_path, write):
    write(tmp_path / "net.npz", **ARRAYS)
    arrays = read_state_dict_file(tmp_path / "net.npz").arrays
    assert arrays.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert arrays[name].dtype == value.dtype and arrays[name].shape == value.shape
        np.testing.assert_array_equal(arrays[name], value)


def test_bfloat16_is_read_from_the_bytes_that_numpy_writes(tmp_path):
    value = np.arange(4).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "net.npz", a=value)
    (array,) = read_npz(tmp_path / "net.npz").values()
    assert array.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(array, value)


def test_a_flipped_bit_names_the_array(path):
    good = path.read_bytes()
    for name, value in list(ARRAYS.items())[:3]:
        place = good.index(value.tobytes("A"))
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert f"Bad CRC-32 for file '{name}.npy'" in refusal(path)


def test_every_mutilation_is_one_clear_line(path):
    good = path.read_bytes()
    for end in range(1, len(good), 97):
        path.write_bytes(good[:end])
        assert "damaged" in refusal(path) or "cannot be read" in refusal(path)
    for place in range(0, len(good), 13):  # a byte that nothing depends on may change
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            read_state_dict_file(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


class Exploit:
    """Pickles as a call: unpickled without care it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def test_pickled_objects_are_refused_and_do_not_run(tmp_path):
    np.savez(tmp_path / "net.npz", a=np.array([Exploit(tmp_path / "it_ran")], object))
    message = refusal(tmp_path / "net.npz")
    assert "a holds pickled objects, and loading them can run a stranger's code" in message
    assert not (tmp_path / "it_ran").exists()


def test_values_that_are_no_numbers_are_refused(tmp_path):
    for value in (np.array(["text"]), np.ones(2, [("x", "f4")]), np.ones(2, "c8")):
        np.savez(tmp_path / "net.npz", a=value)
        assert "only arrays of numbers are read" in refusal(tmp_path / "net.npz")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_does(path, monkeypatch):
    monkeypatch.setattr(archive, "_MOST_BYTES", 500)
    assert "would unpack to" in refusal(path)


def test_a_header_that_says_more_than_the_record_holds(tmp_path):
    file = io.BytesIO()
    np.save(file, np.ones(3, "f4"))
    longer = file.getvalue().replace(b"(3,)", b"(9,)")
    save(tmp_path / "net.npz", content=longer)
    assert "a [9] of float32 has 12 bytes, not 36" in refusal(tmp_path / "net.npz")


def test_other_records_are_named(tmp_path):
    path = tmp_path / "net.npz"
    save(path, name="a.txt", content=b"x")
    assert "a file of torch.save; name it .pth" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.npy", b"")
        archive.writestr("a.npy", b"")
    assert "a.npy is there twice" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"")
        archive.writestr("b.pkl", b"")
    assert "holds b.pkl, which is no array of NumPy's" in refusal(path)
    zipfile.ZipFile(path, "w").close()
    assert "cannot be read as .npz" in refusal(path) or "holds no arrays" in refusal(path)


def test_files_of_other_formats_are_named(path, tmp_path):
    other = tmp_path / "other.npz"
    torch.save({"a": torch.ones(2)}, other)
    assert "it is a file of torch.save; name it .pth" in refusal(other)
    safetensors.numpy.save_file({"a": np.ones(2, "f4")}, other)
    assert "it is a safetensors file; name it .safetensors" in refusal(other)
    for ending in ("pth", "safetensors"):
        moved = path.rename(tmp_path / f"net.{ending}")
        assert "it is an archive of NumPy's arrays; name it .npz" in refusal(moved)
        moved.rename(path)
