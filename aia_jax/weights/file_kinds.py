"""Says what a file is that holds no weights, or weights of another framework, and what to do."""

import re
from pathlib import Path

# First bytes → what the file is, and what to do.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer, which stands for the file; run `git lfs pull` there",
    ),
    (b"\x1f\x8b", "it is packed with gzip; unpack it first"),
    (b"BZh", "it is packed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "it is packed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is packed with zstd; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is packed with 7-Zip; unpack it first"),
    (b"Rar!\x1a\x07", "it is packed with RAR; unpack it first"),
    (b"\x89HDF", "it is an HDF5 file (Keras); give a checkpoint of PyTorch"),
    (b"GGUF", "it is a GGUF file (llama.cpp); give a checkpoint of PyTorch"),
    (b"\x12\x01\0\0\0\0\0\0", "it is a file of MXNet; give a checkpoint of PyTorch"),
    (b"%PDF", "it is a PDF document; give the weights themselves"),
    (b"\x89PNG", "it is a picture (PNG); give the weights themselves"),
    (b"\xff\xd8\xff", "it is a picture (JPEG); give the weights themselves"),
    (b"\x08\x01\x12", "it is a SavedModel of TensorFlow; give a checkpoint of PyTorch"),
)
# Patterns of the first 512 bytes, for what the first few do not show.
_PATTERNS: tuple[tuple[bytes, str], ...] = (
    (rb"(?s).{257}ustar", "it is a tar archive; unpack it and give the checkpoint in it"),
    (rb"(?s).{4}TFL3", "it is a TensorFlow Lite model; give a checkpoint of PyTorch"),
    (rb"(?s).{4}ftyp", "it is a video (MP4); give the weights themselves"),
    # The version of ONNX, then the producer's name, the graph or the operators' version.
    (
        rb"(?s)\x08[\x02-\x1f](\x12[\x01-\x40][ -~]|[:B])",
        "it is an ONNX model; give the checkpoint of PyTorch that it was made of",
    ),
    (
        rb"(?s)[\x81-\x8f](\xa6params|\xa5model|\xa9optimizer|\xabbatch_stats)",
        "it is a msgpack file (Flax); give a checkpoint of PyTorch",
    ),
    (
        rb'(?s)\s*\{.*"weight_map"',
        "it is the index of a model in several files; join them into one .safetensors",
    ),
)
# Ends of names of files that no first bytes tell.
_NAMES: tuple[tuple[str, str], ...] = (
    (r"\.onnx", "an ONNX model"),
    (r"\.index|\.data-\d+-of-\d+", "a checkpoint of TensorFlow"),
    (r"\.pb", "a graph of TensorFlow"),
    (r"\.keras", "a model of Keras"),
    (r"\.h5|\.hdf5", "an HDF5 file (Keras)"),
    (r"\.tflite", "a TensorFlow Lite model"),
    (r"\.msgpack", "a msgpack file (Flax)"),
    (r"\.pdparams|\.pdiparams", "a file of PaddlePaddle"),
    (r"\.caffemodel", "a model of Caffe"),
    (r"\.mlmodel|\.mlpackage", "a model of Core ML"),
    (r"\.engine|\.plan|\.trt", "an engine of TensorRT"),
)
_TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's checkpoint index, and version 1
# Bytes of texts in ASCII, UTF-8 and the like.
_TEXT = bytes([*b"\t\n\r\f", *range(32, 127), *range(128, 256)])


def find_other_content(path: Path) -> str | None:
    """What a file holds in place of weights that can be read, and what to do.

    Args:
        path: of a file; its name's ending says the format that is expected.

    Returns:
        A part of a sentence; None where the file may hold weights of that format.
    """
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - len(_TABLE_END)))
        end = file.read()
    if not head:
        return "it is empty; download or copy it again"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "it is a web page (HTML or XML), as a failed download leaves; download it again"
    if text := _other_format(head, path.suffix.lower()):
        return text
    if text := next((text for start, text in _BEGINNINGS if head.startswith(start)), None):
        return text
    if text := next((text for pattern, text in _PATTERNS if re.match(pattern, head)), None):
        return text
    if end == _TABLE_END:
        return "it is a checkpoint of TensorFlow; give a checkpoint of PyTorch"
    for pattern, kind in _NAMES:
        if re.search(f"({pattern})$", path.name, re.IGNORECASE):
            return f"it is {kind} by its name; give a checkpoint of PyTorch"
    if not head.translate(None, _TEXT):
        first = head.decode(errors="replace").strip().partition("\n")[0]
        return f"it is a text that begins with {first[:40]!r}; give the weights themselves"
    return None


def _other_format(head: bytes, ending: str) -> str | None:
    """The format of a file that is read, but under another ending."""
    is_archive, is_pickle = (
        head.startswith(b"PK\x03\x04"),
        head[:1] == b"\x80" and head[1:2] < b"\x06",
    )
    # An archive begins with the name of its first record.
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")] if is_archive else b""
    if first in (b"metadata.json", b"model.weights.h5"):
        return "it is a model of Keras; give a checkpoint of PyTorch"
    if b".npy" in first:
        return None if ending == ".npz" else "it is an archive of NumPy's arrays; name it .npz"
    if head.startswith(b"\x93NUMPY"):
        return "it is a single array of NumPy's; give a file with all of them (.npz)"
    if is_archive or is_pickle:
        wrong = ending in (".npz", ".safetensors")
        return "it is a file of torch.save; name it .pth" if wrong else None
    if head[7:9] == b"\0{":
        return (
            None if ending == ".safetensors" else "it is a safetensors file; name it .safetensors"
        )
    return None
