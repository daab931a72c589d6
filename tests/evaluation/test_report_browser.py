"""The report in a headless Chromium: no error, every image loads, sorting and search work."""

import json

import pytest

from aia_jax.evaluation.report.page import write_report
from tests.helpers.chromium import NAMES, chromium, find_chromium
from tests.helpers.tiny_data import make_dataset
from tests.helpers.tiny_report import scores_of

pytestmark = pytest.mark.skipif(
    find_chromium() is None,
    reason=f"no browser: none of {', '.join(NAMES)} is on PATH (apt-get install chromium)",
)

PHONE, DESKTOP = 390, 1280
# So many that the confusion matrix is a picture.
CLASSES = (
    "<script>alert(1)</script> & </script>",
    "把某物推到右边",
    "long " * 60 + "x" * 200,
    *(f"Class {number:02d}" for number in range(3, 20)),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of two models, with the frames of their mistakes."""
    folder = tmp_path_factory.mktemp("report")
    data = make_dataset(folder / "data", 2, classes=CLASSES, splits=["validation"])
    files = {f"{seed}.npz": scores_of(data, seed, network=f"Net {seed}") for seed in range(2)}
    write_report(files, folder / "report.html", data=data, strips=3)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def column(page, table, number):
    """The texts of a column's visible cells."""
    rows = f"[...document.querySelectorAll('#{table} tbody tr')].filter((row) => !row.hidden)"
    return page.evaluate(f"{rows}.map((row) => row.cells[{number}].textContent.trim())")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_it_opens_without_an_error_and_every_image_loads(page, report, width, scheme):
    page.open(report, width=width, scheme=scheme)
    images = page.evaluate(
        "Promise.all([...document.images].map((image) => image.decode().then(() => "
        "image.naturalWidth)))"
    )
    assert len(images) >= 5 and all(images)
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 24, 30)") == (scheme == "dark")
    assert not page.problems


def test_a_heading_sorts_its_table_with_mouse_and_keyboard(page, report):
    page.open(report)
    button = "document.querySelectorAll('#classes-table thead button')[{}]"
    before = column(page, "classes-table", 1)
    assert before == sorted(before, key=int)
    page.evaluate(f"{button.format(1)}.click()")  # numbers: the largest first
    assert column(page, "classes-table", 1) == before[::-1]
    sorted_by = f"{button.format(1)}.parentNode.getAttribute('aria-sort')"
    assert page.evaluate(sorted_by) == "descending"
    page.evaluate(f"{button.format(1)}.focus()")
    page.press("Enter", 13, "\r")
    assert column(page, "classes-table", 1) == before
    assert page.evaluate(sorted_by) == "ascending"
    page.evaluate(f"{button.format(0)}.focus()")
    page.press(" ", 32, " ")
    names = column(page, "classes-table", 0)
    assert [name for name in names if name.startswith("Class")] == list(CLASSES[3:])
    assert page.evaluate(sorted_by) is None
    assert not page.problems


def test_unknown_values_stay_last_in_both_directions(page, tmp_path):
    """Classes without videos have no accuracy."""
    data = make_dataset(tmp_path / "data", 1, classes=CLASSES, splits=["validation"])
    scores = scores_of(data)
    few = scores.rows(scores.labels > 4)
    write_report({"a.npz": few}, tmp_path / "report.html", strips=0)
    page.open(tmp_path / "report.html")
    for _ in range(2):
        page.evaluate("document.querySelectorAll('#classes-table thead button')[3].click()")
        assert column(page, "classes-table", 3)[-5:] == ["—"] * 5
    assert not page.problems


def test_the_search_finds_classes_by_words_in_any_case(page, report):
    page.open(report)
    page.evaluate("document.getElementById('search-classes-table').focus()")
    page.type("cLASS 1")
    assert column(page, "classes-table", 0) == [f"Class {number}" for number in range(10, 20)]
    count = "document.querySelector('output[for=search-classes-table]').textContent"
    assert page.evaluate(count) == "10 of 20"
    field = "document.getElementById('search-classes-table')"
    for text, found in ((CLASSES[1], CLASSES[1]), ("</script> &", CLASSES[0])):
        page.evaluate(f"{field}.value = ''")
        page.type(text)
        assert column(page, "classes-table", 0) == [found]
    page.evaluate(f"{field}.value = ''")
    page.type("nothing like it")
    assert column(page, "classes-table", 0) == [] and page.evaluate(count) == "0 of 20"
    assert not page.problems


def test_pointing_at_the_confusion_picture_names_the_cell(page, report):
    page.open(report)
    page.evaluate("document.querySelector('img.matrix').scrollIntoView({block: 'center'})")
    page.evaluate("new Promise((done) => setTimeout(done, 700))")  # scrolling is smooth
    box = json.loads(
        page.evaluate(
            "JSON.stringify(document.querySelector('img.matrix').getBoundingClientRect())"
        )
    )
    side = box["width"] / len(CLASSES)
    page.move(box["x"] + 4.5 * side, box["y"] + 3.5 * side)
    said = page.evaluate("document.querySelector('output.cell').textContent")
    assert said.startswith("Class 03 (3) taken for Class 04 (4): ") and "video" in said
    assert not page.problems
