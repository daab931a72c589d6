"""Finds the fonts of this machine that have the letters of a text."""

import contextlib
import re
from collections.abc import Iterator

from matplotlib import font_manager

DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib, so its letters are the same everywhere
# Fonts that have a box, or nothing, for every character.
_WITHOUT_LETTERS = re.compile("last ?resort|notdef|blank", re.IGNORECASE)


def find_fonts(text: str) -> tuple[list[str], str]:
    """Finds font families that together have the characters of a text.

    Other fonts than `DEFAULT_FONT` are opened only if it lacks some.

    Returns:
        The names of the families, `DEFAULT_FONT` first, and the characters that no font has.
    """
    families = [DEFAULT_FONT]
    missing = {ord(letter) for letter in text if not letter.isspace()}
    missing -= _charmap(font_manager.findfont(DEFAULT_FONT)).keys()
    if not missing:
        return families, ""
    coverage: dict[str, set[int]] = {}
    for family, path in _fonts():
        found = missing & _charmap(path).keys()
        if len(found) > len(coverage.get(family, ())):
            coverage[family] = found
        if found == missing:
            break
    while coverage and missing:
        best = max(sorted(coverage), key=lambda family: len(coverage[family] & missing))
        found = coverage.pop(best) & missing
        if not found:
            break
        families.append(best)
        missing -= found
    return families, "".join(map(chr, sorted(missing)))


def _fonts() -> Iterator[tuple[str, str]]:
    """Yields family and path of upright fonts, also of those that matplotlib's list lacks."""
    listed = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - listed):
        with contextlib.suppress(Exception):  # FreeType's errors have no type of their own
            font_manager.fontManager.addfont(path)
    entries = font_manager.fontManager.ttflist
    for entry in sorted(entries, key=lambda entry: (entry.name, abs(_weight(entry) - 400))):
        if entry.style == "normal" and not _WITHOUT_LETTERS.search(entry.name):
            yield entry.name, entry.fname


def _weight(entry: font_manager.FontEntry) -> int:
    return entry.weight if isinstance(entry.weight, int) else 400


def _charmap(path: str) -> dict[int, int]:
    """The characters of a font, with their glyphs; none if matplotlib cannot use it."""
    try:
        return font_manager.get_font(path).get_charmap()
    except Exception:  # as with fonts of coloured bitmaps
        return {}
