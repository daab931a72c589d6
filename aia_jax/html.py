"""Pieces of the page that `prepare_data.py show` writes: HTML text out of plain values. No scripts,
nothing from elsewhere.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
import simplejpeg

_HEIGHT, _GAP, _QUALITY = 128, 4, 82  # pixels; of a film strip
_SVG_WIDTH, _SVG_HEIGHT = 520, 120  # of the drawn part of a histogram

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5c6877; --line: #d9dee6; --page: #f6f7f9; --card: #ffffff;
        --accent: #2f6fb7; --warn: #a83a1c; --tint: #e8f0f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #323b47; --page: #14181e; --card: #1c222a;
          --accent: #6aa7e8; --warn: #f0875f; --tint: #22303f }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1180px; padding: 28px 24px 60px; background: var(--page); color: var(--ink);
       font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1 { margin: 0 0 2px; font-size: 28px } h2 { margin: 40px 0 12px; font-size: 21px } h3 { margin: 0 0 10px; font-size: 15px }
p { margin: 4px 0 } code { font: 13px ui-monospace, "DejaVu Sans Mono", Consolas, monospace; overflow-wrap: anywhere }
.soft { color: var(--soft) } .warn { color: var(--warn); font-weight: 600 }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; margin: 12px 0 }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 12px } .columns .card { margin: 0 }
table { border-collapse: collapse; width: 100% } th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 } th:first-child, td:first-child { text-align: left } td { font-variant-numeric: tabular-nums }
tr:last-child td { border-bottom: 0 }
figure { margin: 0 0 16px } figure:last-child { margin: 0 } figure img { display: block; width: 100%; border-radius: 4px; background: #000 }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; margin: 0 0 5px } figcaption b { font-size: 16px }
figcaption .soft { font-size: 13px }
.label { background: var(--tint); color: var(--accent); border-radius: 4px; padding: 0 7px; font-weight: 600; font-size: 13px }
.pair { display: grid; grid-template-columns: 1fr 1fr; align-items: end; gap: 14px; padding: 12px 0; border-top: 1px solid var(--line) }
.pair:first-of-type { border-top: 0; padding-top: 0 }
.pair figure { margin: 0 }
svg { display: block; width: 100%; height: auto } svg rect { fill: var(--accent) } svg text { fill: var(--soft); font-size: 12px }
svg line { stroke: var(--line) }
.scroll { max-height: 560px; overflow-y: auto } .classes { columns: 2 440px; column-gap: 32px; font-size: 13px; padding-right: 8px }
.class { display: grid; grid-template-columns: 28px minmax(0, 1fr) 80px 44px; gap: 8px; align-items: center;
         break-inside: avoid; line-height: 1.55 }
.class span:nth-child(2) { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.class i { display: block; height: 9px; border-radius: 2px; background: var(--accent); min-width: 1px }
.class span:first-child, .class span:last-child { text-align: right; color: var(--soft); font-variant-numeric: tabular-nums }
.list { max-height: 420px; overflow-y: auto; margin: 0; padding: 0; list-style: none; font-size: 13px }
.list li { padding: 3px 0; border-bottom: 1px solid var(--line) } .list li:last-child { border: 0 }
"""


def film_strip(pictures: Sequence[np.ndarray], alt: str) -> str:
    """One picture of all frames side by side, as an `<img>` that carries its own data.

    Args:
        pictures: uint8 [H, W, 3] each, RGB.
        alt: what it shows.
    """
    widths = [max(1, round(one.shape[1] * _HEIGHT / one.shape[0])) for one in pictures]
    small = [
        cv2.resize(one, (width, _HEIGHT), interpolation=cv2.INTER_AREA)
        for one, width in zip(pictures, widths, strict=True)
    ]
    gap = np.zeros((_HEIGHT, _GAP, 3), np.uint8)
    strip = np.concatenate([part for one in small for part in (gap, one)][1:], axis=1)
    data = base64.b64encode(
        simplejpeg.encode_jpeg(np.ascontiguousarray(strip), quality=_QUALITY)
    ).decode()
    return f'<img alt="{escape(alt)}" width="{strip.shape[1]}" height="{_HEIGHT}" src="data:image/jpeg;base64,{data}">'


def figure(strip: str, title: str, label: str, words: Sequence[str]) -> str:
    """A film strip under its class name, the class id and what else there is to say of it."""
    said = "".join(f'<span class="soft">{escape(word)}</span>' for word in words)
    return f'<figure><figcaption><b>{escape(title)}</b><span class="label">{escape(label)}</span>{said}</figcaption>{strip}</figure>'


def histogram(
    title: str, counts: Sequence[int], names: Sequence[str], ticks: Mapping[int, str]
) -> str:
    """Bars with the largest count at the left, names under some of them, and all of them when
    pointed at.

    Args:
        title: above it.
        counts: of each bar.
        names: of each bar, for pointing at it.
        ticks: what stands under which bar.
    """
    step, most = _SVG_WIDTH / max(len(counts), 1), max([*counts, 1])
    parts = [
        f'<text x="34" y="14" text-anchor="end">{most:,}</text>',
        f'<text x="34" y="{_SVG_HEIGHT + 8}" text-anchor="end">0</text>',
    ]
    parts.append(
        f'<line x1="40" x2="{40 + _SVG_WIDTH}" y1="{_SVG_HEIGHT + 8.5}" y2="{_SVG_HEIGHT + 8.5}"/>'
    )
    for place, (count, name) in enumerate(zip(counts, names, strict=True)):
        height = max(_SVG_HEIGHT * count / most, 1.5 if count else 0)
        width = min(step * 0.86, 46)
        x = 40 + step * (place + 0.5) - width / 2
        bar = f'x="{x:.1f}" y="{_SVG_HEIGHT + 8 - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
        parts.append(f"<rect {bar}><title>{escape(name)}: {count:,} videos</title></rect>")
    for place, name in ticks.items():
        parts.append(
            f'<text x="{40 + step * (place + 0.5):.1f}" y="{_SVG_HEIGHT + 26}" '
            f'text-anchor="middle">{escape(name)}</text>'
        )
    drawn = f'<svg viewBox="0 0 {_SVG_WIDTH + 60} {_SVG_HEIGHT + 32}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return card(title, drawn)


def class_list(title: str, names: Sequence[str], counts: Sequence[int]) -> str:
    """Every class with its id, a bar and its number of videos."""
    most = max([*counts, 1])
    rows = (
        f'<div class="class"><span>{k}</span><span title="{escape(name)}">{escape(name)}</span>'
        f'<i style="width:{100 * count / most:.1f}%"></i><span{"" if count else " class=warn"}>{count:,}</span></div>'
        for k, (name, count) in enumerate(zip(names, counts, strict=True))
    )
    return card(title, f'<div class="scroll"><div class="classes">{"".join(rows)}</div></div>')


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in a card; the first column is text, the others are numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def lines(title: str, texts: Sequence[str]) -> str:
    """A list that scrolls when it is long."""
    return card(
        title,
        '<ul class="list">'
        + "".join(f"<li><code>{escape(text)}</code></li>" for text in texts)
        + "</ul>",
    )


def card(title: str, content: str) -> str:
    """A framed part with a heading; `content` is HTML."""
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def document(title: str, body: str) -> str:
    """The whole page; `body` is HTML."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
