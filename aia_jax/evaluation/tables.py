"""Tables in the form of the paper's Tables I and II, from scores alone."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from aia_jax.evaluation.metrics import summarize
from aia_jax.evaluation.paper_tables import PaperNumber, find_paper_number
from aia_jax.evaluation.scores import About, Ensemble, Evaluation, Scores, tests

FORMS = ("I", "II")

_NOTHING = "—"  # in a cell without a value
_BEST = "CinST->STinC"  # the attention that the paper's Table II calls AIA


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: its heading, a text for each row, and on which side texts stand."""

    heading: str
    cells: tuple[str, ...]
    right: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as texts without any mark-up, and notes for below it."""

    columns: tuple[Column, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Result:
    """What a table needs of a score file."""

    name: str
    about: About
    top1: str
    top5: str
    map: str | None  # of several labels a video
    paper: PaperNumber | None
    missing: int  # videos that were not evaluated
    expected: int

    @property
    def paper_cells(self) -> tuple[str, str]:
        values = (self.paper.top1, self.paper.top5) if self.paper else (None, None)
        top1, top5 = (_NOTHING if value is None else f"{value:.1f}" for value in values)
        return top1, top5


def make_table(files: Mapping[str, Scores], form: str = "II") -> Table:
    """Makes a table of measured numbers with the paper's beside them.

    Args:
        files: scores by name; a row each. In form II results of one network and protocol on several
            data sets share a row, as in the paper.
        form: "I" (models and blocks) or "II" (methods and protocols).

    Raises:
        ScoresError: no video of a file was evaluated.
    """
    results = [_result(name, scores) for name, scores in files.items()]
    columns = _form_one(results) if form == "I" else _form_two(results)
    return Table(tuple(columns), _notes(results))


def to_markdown(table: Table) -> str:
    """The table for Markdown, its columns aligned in the source too."""
    columns = [
        [_escape_markdown(text) for text in (column.heading, *column.cells)]
        for column in table.columns
    ]
    widths = [max(3, *map(len, texts)) for texts in columns]
    lines = []
    for row, texts in enumerate(zip(*columns, strict=True)):
        cells = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(texts, widths, table.columns, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if row == 0:
            rules = [
                "-" * (width - 1) + (":" if column.right else "-")
                for width, column in zip(widths, table.columns, strict=True)
            ]
            lines.append(f"| {' | '.join(rules)} |")
    notes = [f"\n{_escape_markdown(note)}" for note in table.notes]
    return "\n".join(lines + notes) + "\n"


def to_latex(table: Table) -> str:
    """The table as a LaTeX `tabular` that needs no packages; notes are comments."""
    layout = "".join("r" if column.right else "l" for column in table.columns)
    rows = zip(*((column.heading, *column.cells) for column in table.columns), strict=True)
    lines = [" & ".join(map(_escape_latex, texts)) + r" \\" for texts in rows]
    body = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]
    comments = [f"% {' '.join(note.split())}" for note in table.notes]
    return "\n".join([*comments, rf"\begin{{tabular}}{{{layout}}}", *body, r"\end{tabular}"]) + "\n"


def _result(name: str, scores: Scores) -> _Result:
    summary = summarize(scores)
    return _Result(
        name,
        scores.about,
        f"{100 * summary.top1:.1f}",
        f"{100 * summary.top5:.1f}",
        None if summary.map is None else f"{100 * summary.map:.1f}",
        find_paper_number(scores.about),
        summary.expected - summary.evaluated,
        summary.expected,
    )


def _form_one(results: Sequence[_Result]) -> list[Column]:
    """Table I: model, block, parameters, accuracy, FLOPs."""
    columns = []
    for heading, texts in (
        ("Data set", [_dataset(one.about) for one in results]),
        ("Frames×Crops×Clips", [one.about.protocol for one in results]),
        *_further_settings([one.about for one in results]),
    ):
        if len(set(texts)) > 1:  # the paper has one of each, which the caption names
            columns.append(Column(heading, tuple(texts), right=False))
    models = [_model_and_block(one.about) for one in results]
    heads = list(zip(models, *(column.cells for column in columns), strict=True))
    columns += [
        Column("Model", tuple(model for model, _ in models), right=False),
        Column("Block", tuple(block for _, block in models), right=False),
        Column("Params", tuple(_params(one.about, 2) for one in results)),
        *_precision_column("", results),
        Column("Top-1", tuple(one.top1 for one in results)),
        Column("Top-5", tuple(one.top5 for one in results)),
        Column("Paper's Top-1", tuple(one.paper_cells[0] for one in results)),
        Column("Paper's Top-5", tuple(one.paper_cells[1] for one in results)),
        Column("FLOPs as the paper counts", tuple(_flops(one.about, 2) for one in results)),
        Column("MACs", tuple(_macs(one.about, 2) for one in results)),
    ]
    if len(set(heads)) < len(heads):  # only the files tell such rows apart
        columns.append(Column("Scores", tuple(one.name for one in results), right=False))
    return columns


def _form_two(results: Sequence[_Result]) -> list[Column]:
    """Table II: method, backbone, protocol, parameters, FLOPs, accuracy on each data set."""
    headings = (
        *("Method", "Backbone", "Frames×Crops×Clips", "Params"),
        *("FLOPs as the paper counts", "MACs"),
    )
    datasets = list(dict.fromkeys(_dataset(one.about) for one in results))
    rows: list[tuple[tuple[str, ...], dict[str, _Result]]] = []
    further = _further_settings([one.about for one in results])
    headings += tuple(heading for heading, _ in further)
    for number, result in enumerate(results):
        about = result.about
        head = (
            *_method_and_backbone(about),
            *(about.protocol, _params(about, 1), _flops(about, 1), _macs(about, 1)),
            *(texts[number] for _, texts in further),
        )
        dataset = _dataset(about)
        same = (cells for other, cells in rows if other == head and dataset not in cells)
        if (cells := next(same, None)) is not None:
            cells[dataset] = result
        else:
            rows.append((head, {dataset: result}))
    columns = [
        Column(heading, tuple(head[number] for head, _ in rows), right=2 < number < 6)
        for number, heading in enumerate(headings)
    ]
    for dataset in datasets:
        found = [cells.get(dataset) for _, cells in rows]
        prefix = f"{dataset}: " if len(datasets) > 1 else ""
        columns += _precision_column(prefix, found)
        for heading, texts in (
            ("Top-1", [one.top1 if one else _NOTHING for one in found]),
            ("Top-5", [one.top5 if one else _NOTHING for one in found]),
            ("Paper's Top-1", [one.paper_cells[0] if one else _NOTHING for one in found]),
            ("Paper's Top-5", [one.paper_cells[1] if one else _NOTHING for one in found]),
        ):
            columns.append(Column(prefix + heading, tuple(texts)))
    if len({head for head, _ in rows}) < len(rows):  # only the files tell such rows apart
        names = [", ".join(one.name for one in cells.values()) for _, cells in rows]
        columns.append(Column("Scores", tuple(names), right=False))
    return columns


def _precision_column(prefix: str, results: Sequence[_Result | None]) -> list[Column]:
    """mAP, where one of the results has it."""
    if not any(one and one.map for one in results):
        return []
    cells = [(one and one.map) or _NOTHING for one in results]
    return [Column(f"{prefix}mAP", tuple(cells))]


def _further_settings(abouts: Sequence[About]) -> list[tuple[str, list[str]]]:
    """Settings of tests that differ, which the paper's tables have no column for.

    Returns:
        Heading and texts, one for each of `abouts`, of every such setting.
    """
    settings = {
        "Split": [{about.split} for about in abouts],
        "Crop": [{f"{test.crop_size}" for test in tests(about)} for about in abouts],
        "Average of": [{test.averaging for test in tests(about)} for about in abouts],
    }
    columns = [(name, [", ".join(sorted(v)) for v in found]) for name, found in settings.items()]
    return [(name, texts) for name, texts in columns if len(set(texts)) > 1]


def _notes(results: Sequence[_Result]) -> tuple[str, ...]:
    datasets = ", ".join(
        dict.fromkeys(f"{_dataset(one.about)} ({one.about.split})" for one in results)
    )
    notes = [
        f"Top-1 and Top-5 in percent, measured on {datasets}. The paper's numbers are those that "
        "Hao et al. 2022 print for the same network, frames, crops and clips."
    ]
    if papers := sorted({one.paper.table for one in results if one.paper and one.paper.table}):
        notes[0] += f" They stand in its Table{'s' if len(papers) > 1 else ''} {', '.join(papers)}."
    if any(one.map for one in results):
        notes.append(
            "mAP, in percent, is of data with several labels a video: the mean over classes of the "
            "average precision. Top-1 there is the share of videos whose largest logit is one of "
            "their labels."
        )
    notes += [
        f"{one.name}: the number beside it is that of {one.paper.source}."
        for one in results
        if one.paper and one.paper.source
    ]
    notes.append(
        "MACs are multiply-accumulates of convolutions and linear layers; the paper adds two "
        "operations for each number that goes through batch normalisation. Both are of one view, "
        "times the views."
    )
    notes += [
        f"{one.name}: {one.expected - one.missing:,} of {one.expected:,} videos were evaluated; "
        "the others are damaged and do not count."
        for one in results
        if one.missing
    ]
    return tuple(notes)


def _dataset(about: About) -> str:
    name = about.dataset or "data"
    return name if about.label == "label" else f"{name} {about.label}"


def _model_and_block(about: About) -> tuple[str, str]:
    """The paper's Table I: TSN or TSM, and the attention in its blocks."""
    pairs = {_parts(test) for test in tests(about)}
    if len(pairs) > 1:
        return " + ".join(dict.fromkeys(test.network for test in tests(about))), _NOTHING
    ((model, block),) = pairs
    return model, {"none": "None", "": _NOTHING}.get(block, block)


def _parts(test: Evaluation) -> tuple[str, str]:
    temporal, attention = test.model.get("temporal"), test.model.get("attention")
    if not temporal or not attention or test.model.get("non_local"):  # another kind of network
        return test.network, ""
    return str(temporal).upper(), str(attention)


def _method_and_backbone(about: About) -> tuple[str, str]:
    """The paper's Table II: "AIA(TSM)" and "ResNet-50"."""
    methods, backbones = {}, {}
    for test in tests(about):
        method, comma, backbone = test.network.rpartition(", ")
        temporal, attention = _parts(test)
        if attention == _BEST:
            method = f"AIA({temporal})"
        methods[method if comma else test.network] = None
        backbones[backbone if comma else _NOTHING] = None
    return " + ".join(methods), " + ".join(backbones)


def _params(about: About, digits: int) -> str:
    if isinstance(about, Ensemble):  # the paper leaves it open too
        return _NOTHING
    return f"{_round(about.params / 1e6, digits)}M"


def _flops(about: About, digits: int) -> str:
    return _per_view([(test.paper_flops, test.views) for test in tests(about)], digits)


def _macs(about: About, digits: int) -> str:
    return _per_view([(test.macs, test.views) for test in tests(about)], digits)


def _per_view(costs: Sequence[tuple[int, int]], digits: int) -> str:
    """Cost of a view times views, "99.4G×6"; models with the same views are added up."""
    totals: dict[int, int] = {}
    for cost, views in costs:
        totals[views] = totals.get(views, 0) + cost
    return " + ".join(f"{_round(cost / 1e9, digits)}G×{views}" for views, cost in totals.items())


def _round(value: float, digits: int) -> str:
    """A number with so many decimals; below 1 with two significant digits."""
    return f"{value:.{digits}f}" if value >= 1 else f"{value:.2g}"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


_LATEX = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "—": "---",
    "->": r"$\rightarrow$",
}


def _escape_latex(text: str) -> str:
    pattern = "|".join(map(re.escape, sorted(_LATEX, key=len, reverse=True)))
    return re.sub(pattern, lambda match: _LATEX[match[0]], " ".join(text.split()))
