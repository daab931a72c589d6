"""metrics.jsonl: what is no row is named, what a kill left is passed over, a full disk is named."""

import json
import resource

import pytest

from aia_jax.errors import UserError
from aia_jax.training.metrics_file import METRICS_FILE, MetricsFile, read_rows

ROW = {"step": 1, "split": "train", "steps": 1, "loss": 0.5, "top1": None}
LINE = json.dumps(ROW).encode()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"[]", "list dict"),
        (b"", "JSON"),
        (b'{"split": "train"}', '"step"'),
        (b'{"step": "1", "split": "train"}', '"step"'),
        (b'{"step": 1.5, "split": "train"}', '"step"'),
        (b'{"step": 1, "split": 3}', '"split" train or validation'),
        (b'{"step": 1, "split": "train", "loss": "0.5"}', "'loss' number"),
        (b'{"step": 1, "split": "train", "loss": [0.5]}', "'loss' number"),
        (b'{"step": 1, "split": "train", "steps": 0}', '"steps" from 1'),
        (b'{"step": 1, "split": "train", "loss": NaN}', "NaN"),
        (b'{"step": 1, "split": "train", "loss": 1e999}', "1e999"),
        (b'{"step": ' + b"1" * 5000 + b', "split": "train"}', "digits"),
        (LINE[:20], "JSON"),
        (b"\xff" + LINE, "UTF-8"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_a_line_that_is_no_row_is_named_and_passed_over_at_the_end(tmp_path, line, words):
    path = tmp_path / METRICS_FILE
    path.write_bytes(LINE + b"\n" + line + b"\n" + LINE + b"\n")
    with pytest.raises(UserError, match="line 2 is not a row") as error:
        read_rows(path)
    text = str(error.value)
    assert "\n" not in text and len(text) < 500 and text.endswith("remove the line")
    for word in words.split():
        assert word in text, text
    path.write_bytes(LINE + b"\n" + line)  # a killed process left it
    assert read_rows(path) == [ROW]


def test_rows_are_written_at_once_and_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / METRICS_FILE
    file = MetricsFile(path, [ROW])
    file.write(ROW | {"step": 2})
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    file.close()
    file = MetricsFile(path, [ROW])
    # A limit on the size of files stands for a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINE) + 3, limits[1]))
    try:
        with pytest.raises(OSError, match=f"File too large.*{METRICS_FILE}"):
            file.write(ROW | {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.close()
