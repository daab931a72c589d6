"""The pieces of reports in HTML: escaped text, pictures inside the page, bars to scale."""

import base64
import re
from xml.etree import ElementTree

import numpy as np
import simplejpeg

from aia_jax import html

TEXT = '<b>&"'
ESCAPED = "&lt;b&gt;&amp;&quot;"


def test_every_piece_is_well_formed_and_escapes_text():
    picture = np.zeros((8, 8, 3), np.uint8)
    pieces = [
        html.card(TEXT, "<p>HTML</p>"),
        html.table([TEXT, "n"], [[TEXT, "1"]]),
        html.text_list(TEXT, [TEXT]),
        html.figure(html.film_strip([picture], TEXT).replace(">", "/>"), TEXT, TEXT, [TEXT]),
        html.bar_chart(TEXT, [1], [TEXT], {0: TEXT}, TEXT),
        html.bar_list(TEXT, [TEXT], [1]),
    ]
    for piece in pieces:
        ElementTree.fromstring(piece)
        assert ESCAPED in piece and TEXT not in piece
    page = html.document(TEXT, "".join(pieces))
    assert page.startswith("<!doctype html>") and f"<title>{ESCAPED}</title>" in page
    assert pieces[0] in page and html.STYLE in page


def test_a_film_strip_holds_its_pictures_side_by_side():
    levels = (40, 120, 200)
    strip = html.film_strip([np.full((64, 32, 3), level, np.uint8) for level in levels], "three")
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', strip)[1]
    pixels = simplejpeg.decode_jpeg(base64.b64decode(data))
    assert pixels.shape == (128, 3 * 64 + 2 * 4, 3)
    for number, level in enumerate(levels):
        middle = pixels[64, number * 68 + 32].astype(int)
        assert np.abs(middle - level).max() < 5


def test_bars_are_scaled_to_the_largest_count():
    chart = html.bar_chart("Lengths", [50, 100, 0], ["a", "b", "c"], {1: "middle"}, "videos")
    heights = [float(height) for height in re.findall(r'<rect [^>]* height="([\d.]+)"', chart)]
    assert heights == [60.0, 120.0, 0.0]
    assert "<title>b: 100 videos</title>" in chart
    assert chart.count("middle") == 2  # the anchor of the text, and the text
    rows = html.bar_list("Classes", ["a", "b"], [30, 0])
    assert re.findall(r"width:([\d.]+)%", rows) == ["100.0", "0.0"]
    assert "<span class=warn>0</span>" in rows


def test_bytes_of_a_name_that_are_no_text_become_escapes():
    assert r"\udcff.mp4" in html.document("\udcff.mp4", "")
