"""Files of torch.save: damage that a checksum shows, tensors without numbers, other contents."""

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from aia_jax.errors import UserError
from aia_jax.weights.torch_files import read_torch_file

STATE_DICT = {
    "conv1.weight": torch.arange(12.0).reshape(3, 4),
    "bn1.weight": torch.full((5,), 0.75),
    "fc.bias": torch.arange(3.0).to(torch.bfloat16),
}


@pytest.fixture
def path(tmp_path):
    torch.save({"epoch": 3, "state_dict": STATE_DICT}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value)


def same(arrays):
    assert arrays.keys() == STATE_DICT.keys()
    for key, value in STATE_DICT.items():
        np.testing.assert_array_equal(arrays[key], value.float().numpy())


def test_a_flipped_bit_in_the_numbers_names_the_key(path):
    same(read_torch_file(path).arrays)
    good = path.read_bytes()
    for key, value in STATE_DICT.items():
        place = good.index(value.view(torch.uint8).numpy().tobytes())
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert f"the numbers of {key} are not those" in refusal(path)


def test_a_flipped_bit_in_another_record_names_the_record(path):
    good = path.read_bytes()
    for name in (b"conv1.weight", b"FloatStorage", b"little"):
        path.write_bytes(good.replace(name, bytes([name[0] ^ 1]) + name[1:]))
        assert "Bad CRC-32 for file 'net/" in refusal(path)


def test_a_record_that_is_marked_as_a_folder_is_damage(path):
    """PyTorch reads nothing for it, and takes what the memory held before."""
    content = bytearray(path.read_bytes())
    place = content.rindex(b"net/data/1") - 46 + 38  # the attributes in the central directory
    content[place] |= 0x10
    path.write_bytes(content)
    assert "net/data/1 is marked as a folder" in refusal(path)


def test_an_archive_without_checksums_loads(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE_DICT, tmp_path / "net.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    same(read_torch_file(tmp_path / "net.pth").arrays)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_was_unpacked_and_packed_again_loads(path, tmp_path, method):
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(tmp_path / "again.pth", "w", method) as again,
    ):
        again.writestr(source.infolist()[0], source.read(source.infolist()[0]))
        again.mkdir("net/data")
        for record in source.infolist()[1:]:
            again.writestr(record.filename, source.read(record))
    same(read_torch_file(tmp_path / "again.pth").arrays)


def test_tensors_may_share_their_numbers_or_be_parts_of_others(tmp_path):
    weight = torch.arange(12.0)
    views = {"a": weight, "b": weight.view(3, 4), "c": weight[2:5], "none": torch.empty(0)}
    torch.save(views | {"no": torch.empty(0)}, tmp_path / "net.pth")
    arrays = read_torch_file(tmp_path / "net.pth").arrays
    np.testing.assert_array_equal(arrays["c"], [2, 3, 4])
    np.testing.assert_array_equal(arrays["b"].ravel(), arrays["a"])


@pytest.mark.parametrize("record", ["net/data.pkl", "net/data/0"])
def test_an_archive_that_unpacks_to_far_more_than_it_has_is_refused(path, tmp_path, record):
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for info in source.infolist():
            size = 66 << 20 if info.filename == record else 0
            bomb.writestr(info.filename, source.read(info).ljust(size, b"\0"))
    assert "would unpack to 69," in refusal(tmp_path / "bomb.pth")


class Tensor:
    """Pickles as a tensor of one number, number `start` of a storage, as before PyTorch 0.4."""

    def __init__(self, start: int, numbers: int):
        self.start, self.numbers = start, numbers

    def __reduce__(self):
        size = self.numbers - self.start
        storage = Reference(
            "storage", torch.FloatStorage, "0", "cpu", size, ("v", self.start, size)
        )
        return torch._utils._rebuild_tensor, (storage, 0, (1,), (1,))


class Reference(tuple):
    def __new__(cls, *identity):
        return super().__new__(cls, identity)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return tuple(value) if isinstance(value, Reference) else None


def test_a_record_is_in_memory_once_for_all_parts_of_it(tmp_path):
    numbers, content = np.arange(1 << 18, dtype="<f4"), io.BytesIO()
    parts = {f"layer{start}.weight": Tensor(start, numbers.size) for start in range(40)}
    Pickler(content, 2).dump(parts)
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", content.getvalue())
        archive.writestr("net/data/0", numbers.tobytes())
    tracemalloc.start()
    try:
        arrays = read_torch_file(tmp_path / "net.pth").arrays
        assert tracemalloc.get_traced_memory()[1] < 4 * numbers.nbytes
    finally:
        tracemalloc.stop()
    assert [array.item() for array in arrays.values()] == list(range(40))


def test_memory_that_runs_out_names_the_file(path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("aia_jax.weights.torch_files.read_bytes", fail)
    with pytest.raises(MemoryError, match=f"reading {path}"):
        read_torch_file(path)


def quantised() -> torch.Tensor:
    return torch._make_per_tensor_quantized_tensor(torch.ones(3, dtype=torch.int8), 0.1, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: torch.ones(3, dtype=torch.float8_e4m3fn), "numbers of torch.float8_e4m3fn"),
        (lambda: torch.ones(3, device="meta"), "a tensor without numbers (on the device meta)"),
        (lambda: torch.eye(3).to_sparse(), "a sparse tensor"),
        (quantised, "a quantised tensor (torch.qint8)"),
    ],
)
def test_tensors_without_plain_numbers_are_refused_by_key(tmp_path, make, found):
    torch.save(STATE_DICT | {"layer1.0.conv1.weight": make()}, tmp_path / "net.pth")
    text = refusal(tmp_path / "net.pth")
    assert f"layer1.0.conv1.weight holds {found}; save it as an ordinary tensor" in text


def test_complex_and_negated_views_become_arrays(tmp_path):
    views = {"a": torch.full((2,), 1 + 2j).conj(), "b": torch._neg_view(torch.ones(2))}
    torch.save(views, tmp_path / "net.pth")
    arrays = read_torch_file(tmp_path / "net.pth").arrays
    assert arrays["a"].tolist() == [1 - 2j, 1 - 2j] and arrays["b"].tolist() == [-1, -1]


def test_other_contents_of_torch(tmp_path):
    itself: dict = {}
    itself["state_dict"] = itself
    torch.save(itself, tmp_path / "itself.pth")
    assert "'state_dict' holds a value of type dict" in refusal(tmp_path / "itself.pth")

    torch.jit.trace(torch.nn.Linear(2, 1), torch.ones(1, 2)).save(tmp_path / "script.pth")
    assert "is a TorchScript program; save its state dict alone" in refusal(tmp_path / "script.pth")

    with zipfile.ZipFile(tmp_path / "net.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    assert "cannot be read as a state dict of torch.save" in refusal(tmp_path / "net.npz")


def test_a_truncated_file_is_asked_to_be_complete(tmp_path):
    for legacy in (False, True):
        content = io.BytesIO()
        torch.save(STATE_DICT, content, _use_new_zipfile_serialization=not legacy)
        for share in (0.05, 0.4, 0.9):
            part = content.getvalue()[: int(share * len(content.getvalue()))]
            (tmp_path / "net.pth").write_bytes(part)
            text = refusal(tmp_path / "net.pth")
            assert "is it complete?" in text or "download or copy it again" in text
