"""Block diagrams and grids as SVG text, for the figures of docs/models.md.

A diagram is a grid of boxes with arrows between them. Columns are as wide as their widest box, so a
text never leaves its box. Colours follow the reader's light or dark scheme.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape

_CHARACTER = 7.1  # pixels of a character at 12 px, with room to spare
_LINE = 15  # pixels between two lines of a box
_GAP = 30  # pixels between two columns
_ROW = 74  # pixels between two rows
_MARGIN = 14

_STYLE = """
svg { --ink: #1f2933; --soft: #6b7785; --paper: #ffffff; --learned: #d6e6ff; --free: #f1f3f5; \
--gate: #ffe2c2; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6eaef; --soft: #9aa5b1; --paper: #14181d; \
--learned: #1f3f68; --free: #262d35; --gate: #6a4216; } }
.paper { fill: var(--paper); }
text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); text-anchor: middle; }
.note { fill: var(--soft); font-size: 11px; }
.left { text-anchor: start; }
.right { text-anchor: end; }
.box { stroke: var(--soft); stroke-width: 1; }
.learned { fill: var(--learned); } .free { fill: var(--free); } .gate { fill: var(--gate); }
.data { fill: none; stroke: none; }
.arrow { fill: none; stroke: var(--ink); stroke-width: 1.3; marker-end: url(#head); }
.dashed { stroke-dasharray: 4 3; }
#head path { fill: var(--ink); }
""".strip()


@dataclasses.dataclass(frozen=True)
class Box:
    """A box of a diagram.

    Attributes:
        column, row: its place; fractions are allowed for the row.
        text: its lines, joined by newlines.
        kind: "learned" has parameters, "free" has none, "gate" is a sum or a product of two inputs
            and is drawn as a circle, "data" is a text alone.
    """

    column: int
    row: float
    text: str
    kind: str = "learned"

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        lines = self.text.split("\n")
        if self.kind == "gate":
            return 26, 26
        padding = 6 if self.kind == "data" else 16
        return max(map(len, lines)) * _CHARACTER + padding, len(lines) * _LINE + 12


@dataclasses.dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes.

    Attributes:
        start, end: keys of the boxes.
        route: "straight" along a row; "down" leaves a box vertically and turns into the row of the
            other; "across" leaves it horizontally and turns into the column of the other; "around"
            goes above all boxes between the two (`lift` rows above the start).
        dashed: for what runs only in some networks.
    """

    start: str
    end: str
    route: str = "straight"
    lift: float = 0.55
    dashed: bool = False


def diagram(
    title: str, boxes: Mapping[str, Box], arrows: Sequence[Arrow], notes: Sequence[str] = ()
) -> str:
    """Draws boxes and arrows.

    Args:
        title: says what the figure shows, for screen readers.
        boxes: by key.
        arrows: between them.
        notes: lines under the diagram.
    """
    columns = range(1 + max(box.column for box in boxes.values()))
    widths = [
        max((box.size[0] for box in boxes.values() if box.column == column), default=0)
        for column in columns
    ]
    centers = [_MARGIN + sum(widths[:n]) + _GAP * n + widths[n] / 2 for n in columns]
    lifts = [boxes[arrow.start].row - arrow.lift for arrow in arrows if arrow.route == "around"]
    top = min([*(box.row for box in boxes.values()), *lifts])
    places = {
        key: (centers[box.column], _MARGIN + 24 + (box.row - top) * _ROW)
        for key, box in boxes.items()
    }
    content = [_arrow(arrow, boxes, places) for arrow in arrows]
    content += [_box(box, *places[key]) for key, box in boxes.items()]
    bottom = max(y + boxes[key].size[1] / 2 for key, (_, y) in places.items())
    width = max(x + boxes[key].size[0] / 2 for key, (x, _) in places.items()) + _MARGIN
    for note in notes:
        bottom += 19
        content.append(_text("note left", _MARGIN, bottom, note))
        width = max(width, len(note) * 6.2 + 2 * _MARGIN)
    return _svg(title, width, bottom + _MARGIN, content)


def grid(
    title: str,
    panels: Sequence[tuple[str, Sequence[str], Sequence[Sequence[int]]]],
    columns: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """Draws which frame each cell's content comes from.

    Args:
        title: says what the figure shows, for screen readers.
        panels: (heading, names of the rows, source frame of each cell from 1; 0 for zeros). They
            stand side by side.
        columns: names of the columns, the frames of a clip.
        notes: lines under the panels.
    """
    side, content = 30, []
    x, bottom = float(_MARGIN), 0.0
    for heading, names, sources in panels:
        left = x + max(len(name) for name in names) * 6.4 + 8
        content.append(_text("left", x, 22, heading))
        for column, name in enumerate(columns):
            content.append(_text("note", left + (column + 0.5) * side, 42, name))
        for row, (name, cells) in enumerate(zip(names, sources, strict=True)):
            y = 50 + row * 24
            content.append(_text("note right", left - 6, y + 15, name))
            for column, source in enumerate(cells):
                kind = "learned" if source == column + 1 else "gate" if source else "free"
                center = left + (column + 0.5) * side
                content.append(
                    f'<rect class="box {kind}" x="{left + column * side:.0f}" y="{y}" '
                    f'width="{side}" height="24"/>'
                )
                content.append(_text("", center, y + 16, str(source)))
            bottom = max(bottom, y + 24)
        x = max(left + len(columns) * side, x + len(heading) * 6.8) + 28
    width = x - 28 + _MARGIN
    for note in notes:
        bottom += 19
        content.append(_text("note left", _MARGIN, bottom, note))
        width = max(width, len(note) * 6.2 + 2 * _MARGIN)
    return _svg(title, width, bottom + _MARGIN, content)


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(title: str, width: float, height: float, content: Sequence[str]) -> str:
    size = f"{width:.0f} {height:.0f}"
    body = "\n".join(content)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>\n'
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="8"/>\n{body}\n</svg>\n'
    )


def _box(box: Box, x: float, y: float) -> str:
    width, height = box.size
    lines = box.text.split("\n")
    if box.kind == "gate":
        shape = f'<circle class="box gate" cx="{x:.1f}" cy="{y:.1f}" r="13"/>'
    else:
        shape = (
            f'<rect class="box {box.kind}" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" rx="5"/>'
        )
    first = y - (len(lines) - 1) * _LINE / 2 + 4
    texts = "".join(
        f'<text x="{x:.1f}" y="{first + number * _LINE:.1f}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return shape + texts


def _arrow(
    arrow: Arrow, boxes: Mapping[str, Box], places: Mapping[str, tuple[float, float]]
) -> str:
    (x1, y1), (x2, y2) = places[arrow.start], places[arrow.end]
    (w1, h1), (w2, h2) = boxes[arrow.start].size, boxes[arrow.end].size
    right, below = (1 if x2 > x1 else -1), (1 if y2 > y1 else -1)
    if arrow.route == "straight":
        points = [(x1 + right * w1 / 2, y1), (x2 - right * w2 / 2, y2)]
    elif arrow.route == "down":
        points = [(x1, y1 + below * h1 / 2), (x1, y2), (x2 - right * w2 / 2, y2)]
        if x1 == x2:
            points = [(x1, y1 + below * h1 / 2), (x2, y2 - below * h2 / 2)]
    elif arrow.route == "across":
        points = [(x1 + right * w1 / 2, y1), (x2, y1), (x2, y2 - below * h2 / 2)]
    else:
        over = y1 - arrow.lift * _ROW
        points = [(x1, y1 - h1 / 2), (x1, over), (x2, over), (x2, y2 - h2 / 2)]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="arrow{" dashed" if arrow.dashed else ""}" d="{path}"/>'
