"""Pieces of reports in HTML: a page with its style sheet, cards, tables, pictures and bars.

Every function returns HTML text. Arguments are plain text, which is escaped, unless they are said
to be HTML. A page is one file that needs nothing else: its pictures, styles and script are inside
it, and a browser is told to load nothing from elsewhere.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
import simplejpeg

_STRIP_HEIGHT, _STRIP_GAP, _STRIP_QUALITY = 128, 4, 82  # pixels, pixels, JPEG quality
_CHART_WIDTH, _CHART_HEIGHT = 520, 120  # pixels of the drawn part of a bar chart
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5c6877; --line: #d9dee6; --page: #f6f7f9;
        --card: #ffffff; --accent: #2a68ae; --warn: #a83a1c; --tint: #e8f0f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #323b47; --page: #14181e; --card: #1c222a;
          --accent: #6aa7e8; --warn: #f0875f; --tint: #22303f }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; background: var(--page);
       color: var(--ink);
       font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { margin: 0 0 2px; font-size: 28px }
h2 { margin: 40px 0 12px; font-size: 21px }
h3 { margin: 0 0 10px; font-size: 15px }
p { margin: 4px 0 }
code { font: 13px ui-monospace, "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere }
.soft { color: var(--soft) }
.warn { color: var(--warn); font-weight: 600 }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
        padding: 14px 16px; margin: 12px 0 }
.columns { display: grid; gap: 12px;
           grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)) }
.columns .card { margin: 0 }
table { border-collapse: collapse; width: 100% }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 }
th:first-child, td:first-child { text-align: left }
td { font-variant-numeric: tabular-nums }
tr:last-child td { border-bottom: 0 }
figure { margin: 0 0 16px }
figure:last-child { margin: 0 }
figure img { display: block; width: 100%; border-radius: 4px; background: #000 }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; margin: 0 0 5px }
figcaption b { font-size: 16px }
figcaption .soft { font-size: 13px }
.label { background: var(--tint); color: var(--accent); border-radius: 4px; padding: 0 7px;
         font-weight: 600; font-size: 13px }
.pair { display: grid; grid-template-columns: 1fr 1fr; align-items: end; gap: 14px; padding: 12px 0;
        border-top: 1px solid var(--line) }
.pair:first-of-type { border-top: 0; padding-top: 0 }
.pair figure { margin: 0 }
svg { display: block; width: 100%; height: auto }
svg rect { fill: var(--accent) }
svg text { fill: var(--soft); font-size: 12px }
svg line { stroke: var(--line) }
.scroll { max-height: 560px; overflow-y: auto }
.classes { columns: 2 440px; column-gap: 32px; font-size: 13px; padding-right: 8px }
.class { display: grid; grid-template-columns: 28px minmax(0, 1fr) 80px 44px; gap: 8px;
         align-items: center; break-inside: avoid; line-height: 1.55 }
.class span:nth-child(2) { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.class i { display: block; height: 9px; border-radius: 2px; background: var(--accent);
           min-width: 1px }
.class span:first-child, .class span:last-child { text-align: right; color: var(--soft);
                                                  font-variant-numeric: tabular-nums }
.list { max-height: 420px; overflow-y: auto; margin: 0; padding: 0; list-style: none;
        font-size: 13px }
.list li { padding: 3px 0; border-bottom: 1px solid var(--line) }
.list li:last-child { border: 0 }
"""


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """The complete page; `body` is HTML, `style` follows `STYLE`, `script` runs at the end.

    Bytes of a file name that are no text, which UTF-8 cannot hold, become escapes.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style>"
    )
    if script:
        body = f"{body}<script>{script}</script>"
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    return page.encode(errors="backslashreplace").decode()


def card(title: str, content: str) -> str:
    """A framed part of the page with a heading; `content` is HTML."""
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in a card; the first column is text, the others are numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def text_list(title: str, texts: Sequence[str]) -> str:
    """A card with a list of texts; a long one scrolls."""
    items = "".join(f"<li><code>{escape(text)}</code></li>" for text in texts)
    return card(title, f'<ul class="list">{items}</ul>')


def film_strip(pictures: Sequence[np.ndarray], alt: str) -> str:
    """An `<img>` with all pictures side by side, whose data are in the page.

    Args:
        pictures: uint8 [H, W, 3] each, RGB.
        alt: what the picture shows, for those who cannot see it.
    """
    small = []
    for picture in pictures:
        height, width = picture.shape[:2]
        size = (max(1, round(width * _STRIP_HEIGHT / height)), _STRIP_HEIGHT)
        small.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    gap = np.zeros((_STRIP_HEIGHT, _STRIP_GAP, 3), np.uint8)
    strip = np.concatenate([part for picture in small for part in (gap, picture)][1:], axis=1)
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(strip), quality=_STRIP_QUALITY)
    return (
        f'<img alt="{escape(alt)}" width="{strip.shape[1]}" height="{_STRIP_HEIGHT}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    )


def figure(image: str, title: str, label: str, notes: Sequence[str]) -> str:
    """A picture under its title, a label and notes; `image` is HTML, such as a film strip."""
    soft = "".join(f'<span class="soft">{escape(note)}</span>' for note in notes)
    return (
        f'<figure><figcaption><b>{escape(title)}</b><span class="label">{escape(label)}</span>'
        f"{soft}</figcaption>{image}</figure>"
    )


def bar_chart(
    title: str, counts: Sequence[int], names: Sequence[str], ticks: Mapping[int, str], unit: str
) -> str:
    """A card with upright bars; pointing at one shows its name and its count.

    Args:
        title: of the card.
        counts: the height of each bar; the axis goes to the largest.
        names: of each bar.
        ticks: the text under some of the bars, by their numbers from 0.
        unit: what is counted, as "videos".
    """
    step, highest = _CHART_WIDTH / max(len(counts), 1), max([*counts, 1])
    left, top = 40, 8
    bottom = top + _CHART_HEIGHT
    parts = [
        f'<text x="{left - 6}" y="14" text-anchor="end">{highest:,}</text>',
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<line x1="{left}" x2="{left + _CHART_WIDTH}" y1="{bottom + 0.5}" y2="{bottom + 0.5}"/>',
    ]
    for number, (count, name) in enumerate(zip(counts, names, strict=True)):
        height = max(_CHART_HEIGHT * count / highest, 1.5 if count else 0)
        width = min(step * 0.86, 46)
        x = left + step * (number + 0.5) - width / 2
        parts.append(
            f'<rect x="{x:.1f}" y="{bottom - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"><title>{escape(name)}: {count:,} {escape(unit)}</title></rect>'
        )
    for number, name in ticks.items():
        parts.append(
            f'<text x="{left + step * (number + 0.5):.1f}" y="{bottom + 18}" '
            f'text-anchor="middle">{escape(name)}</text>'
        )
    view_box = f"0 0 {_CHART_WIDTH + 60} {_CHART_HEIGHT + 32}"
    return card(
        title,
        f'<svg viewBox="{view_box}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>',
    )


def bar_list(title: str, names: Sequence[str], counts: Sequence[int]) -> str:
    """A card with a row for each name: its number from 0, a bar and its count; 0 is a warning."""
    highest = max([*counts, 1])
    rows = (
        f'<div class="class"><span>{k}</span>'
        f'<span title="{escape(name)}">{escape(name)}</span>'
        f'<i style="width:{100 * count / highest:.1f}%"></i>'
        f"<span{'' if count else ' class=warn'}>{count:,}</span></div>"
        for k, (name, count) in enumerate(zip(names, counts, strict=True))
    )
    return card(title, f'<div class="scroll"><div class="classes">{"".join(rows)}</div></div>')
