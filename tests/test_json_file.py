"""JSON is read strictly: every fault is one line that names the file."""

import pytest

from aia_jax.errors import DataError
from aia_jax.json_file import JsonError, parse_json, read_json


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'["a", ', "line 1: not JSON (Expecting value; it ends too early)"),
        (b'[\n"a"\n', "line 3: not JSON (Expecting ',' delimiter; it ends too early)"),
        (b"", "not JSON (Expecting value; it ends too early)"),
        (b"[NaN]", "NaN is no number of JSON's"),
        (b"[-Infinity]", "-Infinity is no number of JSON's"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[" + b"9" * 5000 + b"]", "a number has thousands of digits"),
        (b"[" * 100_000, "its brackets are nested too deep"),
        (b'[{"a": 1, "b": 2, "a": 3}]', "the key 'a' is there twice in one object"),
        (b'["\\ud800"]', "'\\ud800' holds half a character"),
        (b'[{"\\udfff": 1}]', "holds half a character"),
        (b"\xff[]", "not UTF-8 text (byte 0)"),
        (b"{}", "found a dict, expected a list"),
    ],
)
def test_what_is_no_strict_json_is_one_line(tmp_path, content, said):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path, list, "download it again")
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith("; download it again")
    assert said in message and "\n" not in message and len(message) < 400


def test_what_is_valid_stays_what_it_is():
    assert parse_json(b'\xef\xbb\xbf["\\ud83d\\ude00", 1.5, 1, true]', list) == ["😀", 1.5, 1, True]


def test_bytes_of_file_names_are_taken_where_they_may_be():
    assert parse_json(b'["\\udcff"]', list, file_names=True) == ["\udcff"]
    with pytest.raises(JsonError, match="half a character"):
        parse_json(b'["\\udcff"]', list)
    with pytest.raises(JsonError, match="half a character"):
        parse_json(b'["\\ud800"]', list, file_names=True)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); unpack it"):
        read_json(tmp_path, list, "unpack it")
