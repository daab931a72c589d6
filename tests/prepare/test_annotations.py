"""Numbers, names and tables in annotation files are parsed strictly, by one parser each."""

import pytest

from aia_jax.errors import UserError
from aia_jax.prepare.annotations import (
    parse_frame,
    parse_int,
    parse_name,
    parse_seconds,
    parse_stamp,
    read_names,
    read_table,
)
from tests.helpers.raw_sets import write_lines


def error(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize(("value", "number"), [(3, 3), ("3", 3), ("007", 7), (0, 0), ("0", 0)])
def test_whole_numbers(value, number):
    assert parse_int(value, "a.txt, line 1") == number


@pytest.mark.parametrize(
    "value",
    [
        *(1.7, 1.0, True, False, None, [1], "1.7", "1e0", "+1", "1_000", " 1", "1 ", "", "0x1"),
        *("１", "٣", "²", "--1", "true", "NaN", "9" * 5000),
    ],
)
def test_what_only_looks_like_a_whole_number(value):
    said = error(parse_int, value, "a.txt, line 1")
    assert said.startswith("a.txt, line 1: found ") and said.endswith("expected a whole number")


@pytest.mark.parametrize(
    ("value", "limits", "said"),
    [
        (-1, (), "found -1, expected at least 0 (-1 for “not known” is not read"),
        ("-1", (1, 5), "found -1, expected 1 to 4 (-1 for “not known” is not read"),
        (-1, (-1,), ""),
        (5, (0, 5), "found 5, expected 0 to 4"),
        (2**63, (), "expected a number of at most 64 bits"),
        ("9" * 30, (), "expected a number of at most 64 bits"),
    ],
)
def test_numbers_out_of_range(value, limits, said):
    if said:
        assert said in error(parse_int, value, "x", *limits)
    else:
        assert parse_int(value, "x", *limits) == value


def test_frames_are_below_32_bits():
    assert parse_frame("2147483646", "x") == 2**31 - 2
    assert "expected 1 to 2147483646" in error(parse_frame, "99999999999", "x", 1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("12.5", 12.5), ("3", 3.0), ("1e-05", 1e-5), (".5", 0.5), ("0", 0.0)]
)
def test_seconds(text, seconds):
    assert parse_seconds(text, "x") == seconds


@pytest.mark.parametrize(
    "text",
    ["1e300", "1e999", "nan", "inf", "-0.5", "1_0", "１", "", "0:01", "9" * 400],
)
def test_what_are_no_seconds(text):
    assert "expected seconds" in error(parse_seconds, text, "a.csv, line 2, stop")


def test_time_stamps():
    assert parse_stamp("01:02:03.50", "x") == 3723.5
    for text in ("1:2", "00:00:1e3", "00:00:-1", "０0:00:01", "9" * 90 + ":0:0"):
        assert "expected" in error(parse_stamp, text, "x")


def test_names_out_of_json():
    assert (parse_name(" a b ", "x"), parse_name(7, "x")) == ("a b", "7")
    for value in (None, True, 1.7, [], {}, "", "  "):
        assert "expected a name" in error(parse_name, value, "x, entry 3")


@pytest.mark.parametrize("header", ["Path, LABEL ", "\ufeff\ufeffpath,label", "label,PATH"])
def test_columns_are_found_whatever_their_case(tmp_path, header):
    path = write_lines(tmp_path / "a.csv", header, "x,x")
    assert [set(row) for _, row in read_table(path, ["path", "label"])] == [{"path", "label"}]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,label,label", "1,2,3"], "2 columns are named label"),
        (["path,label, Label", "1,2,3"], "2 columns are named label"),
        (["path,label,split,SPLIT", "1,2,3,4"], "2 columns are named split"),
        (["path;label", "1;2"], "save it with commas between the cells instead of ';'"),
        (["path,label", "1,2", ",3"], "line 3: nothing in the column path"),
        (["path,label", '" ",2'], "line 2: nothing in the column path"),
        (["path,label", "1,"], "line 2: nothing in the column label"),
    ],
)
def test_wrong_tables(tmp_path, lines, said):
    path = write_lines(tmp_path / "a.csv", *lines)
    assert said in error(lambda: list(read_table(path, ["path", "label"])))


def test_empty_rows_of_a_spreadsheet_are_passed_over(tmp_path):
    path = write_lines(tmp_path / "a.csv", "path,label", "1,2", ",", "")
    assert [number for number, _ in read_table(path, ["path", "label"])] == [2]


def test_an_empty_line_among_class_names_would_shift_the_ids(tmp_path):
    path = write_lines(tmp_path / "c.txt", "", "a", "b", "")
    assert read_names(path) == ["a", "b"]
    write_lines(path, "a", "", "b")
    assert "c.txt, line 2: it is empty, expected a class name" in error(read_names, path)
