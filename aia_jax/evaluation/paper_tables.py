"""What the paper prints for a test or an ensemble (Hao et al. 2022, Tables I and II).

These are the paper's numbers, not measurements of this code. Table I is on Something-Something V1
with one clip and crop of 8 frames, Table II on V1 and V2. For other data sets, and for networks of
other papers, a recipe has the number in words, which its scores carry (`Evaluation.paper`).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from aia_jax.evaluation.scores import About, Evaluation, tests

# temporal, attention, top-1 and top-5 in percent
_TABLE_I = """
    tsn none            19.7 46.6    tsm none            45.6 74.2
    tsn SE3D            22.0 49.9    tsn GE3D-G          22.3 51.1
    tsn GE3D-DW133      19.4 46.7    tsn GE3D-DW333      44.2 72.6
    tsn S3D-G           28.9 59.3
    tsn CBAM3D177       28.1 57.6    tsn CBAM3D377       43.4 72.2
    tsn C               44.3 72.7    tsm C               47.9 76.3
    tsn ST              43.7 72.5    tsm ST              48.1 76.8
    tsn C->ST           44.3 73.2    tsm C->ST           48.3 77.1
    tsn ST->C           44.3 73.0    tsm ST->C           48.3 77.0
    tsn C+ST            43.6 72.5    tsm C+ST            48.3 77.1
    tsn CinST           46.9 75.6    tsm CinST           48.7 77.4
    tsn STinC           44.5 73.2    tsm STinC           48.4 77.8
    tsn CinST->STinC    48.5 77.2    tsm CinST->STinC    49.2 77.5
    tsn STinC->CinST    47.1 75.8    tsm STinC->CinST    48.6 77.1
    tsn CinST+STinC     46.9 75.5    tsm CinST+STinC     49.1 77.4
"""
# temporal, attention, frames x crops x clips, top-1 and top-5 in percent on V1 and on V2
_TABLE_II = """
    tsn none         8x1x1        19.7 46.6  30.0 60.5
    tsm none         8x1x2        47.3 76.2  61.7 87.4
    tsm none         16x1x2       48.4 78.1  63.1 88.2
    tsm none         8+16x1x2     50.3 79.3  64.3 89.0
    tsn CinST->STinC 8x1x1        48.5 77.2  60.3 86.4
    tsn CinST->STinC 8x1x2        49.5 78.4  61.3 87.1
    tsn CinST->STinC 8x3x2        49.8 78.5  61.9 87.4
    tsn CinST->STinC 12x1x1       49.0 76.4  61.2 86.6
    tsn CinST->STinC 12x1x2       49.9 78.2  61.8 87.2
    tsn CinST->STinC 12x3x2       50.3 78.6  62.4 87.7
    tsn CinST->STinC 16x1x1       49.2 77.9  61.4 86.6
    tsn CinST->STinC 16x1x2       50.0 78.6  62.2 87.3
    tsn CinST->STinC 16x3x2       50.5 79.2  62.7 87.6
    tsn CinST->STinC 8+16x3x2     52.9 81.0  65.0 89.3
    tsn CinST->STinC 8+12+16x3x2  53.8 81.9  65.9 89.8
    tsm CinST->STinC 8x1x1        49.2 77.5  61.7 87.2
    tsm CinST->STinC 8x1x2        50.2 78.6  62.7 87.8
    tsm CinST->STinC 8x3x2        50.4 79.1  63.4 88.2
    tsm CinST->STinC 12x1x1       50.9 79.0  62.5 87.4
    tsm CinST->STinC 12x1x2       51.5 79.7  63.4 88.1
    tsm CinST->STinC 12x3x2       52.0 79.7  64.0 88.4
    tsm CinST->STinC 16x1x1       50.4 78.6  63.0 87.8
    tsm CinST->STinC 16x1x2       51.1 79.6  64.0 88.7
    tsm CinST->STinC 16x3x2       51.6 79.9  64.3 88.9
    tsm CinST->STinC 8+16x3x2     53.9 81.8  66.7 90.4
    tsm CinST->STinC 8+12+16x3x2  55.0 82.4  67.2 90.8
"""
# A recipe's words, as "61.7% top-1, 87.2% top-5 (Table II; 8 frames × 1 crop × 1 clip) for TSM" or,
# of another paper, "53.6% top-1 (H2CN's README; 8 frames × 1 crop × 1 clip) for H2CN".
_WORDS = re.compile(
    r"(?P<top1>[\d.]+)% top-1(, (?P<top5>[\d.]+)% top-5)? "
    r"\((?P<setting>[^)]*)\) for (?P<network>.+)"
)
_TABLE = re.compile(r"Tables? (.*)")
_COUNT = {name: re.compile(rf"(\d+) {name}") for name in ("frame", "crop", "clip")}


class PaperNumber(NamedTuple):
    """An accuracy in percent, and where it stands: a table of the paper, or another source."""

    top1: float
    top5: float | None
    table: str = ""
    source: str = ""


_Key = tuple[str, str, str, str]  # data set, temporal, attention, frames x crops x clips


def _parse_tables() -> Mapping[_Key, PaperNumber]:
    numbers: dict[_Key, PaperNumber] = {}
    words = _TABLE_I.split()
    for temporal, attention, top1, top5 in zip(*(words[i::4] for i in range(4)), strict=True):
        key = ("ssv1", temporal, attention, "8x1x1")
        numbers[key] = PaperNumber(float(top1), float(top5), "I")
    for line in filter(None, map(str.split, _TABLE_II.splitlines())):
        for dataset, top1, top5 in (("ssv1", *line[3:5]), ("ssv2", *line[5:7])):
            # What both tables have is equal; the paper's ablation is where it stands first.
            number = PaperNumber(float(top1), float(top5), "II")
            numbers.setdefault((dataset, *line[:3]), number)
    return numbers


_NUMBERS = _parse_tables()


def find_paper_number(about: About) -> PaperNumber | None:
    """The paper's number for the same network, data set, frames, crops and clips; None if none.

    The paper has none for a training split, for averaged probabilities, for other crops than 224
    pixels (of three crops, other than 224 to 256: it calls them full resolution), and for models
    that are not joined by the plain mean of their logits. Of a network of another paper a test with
    averaged probabilities has a number too.

    Args:
        about: a test, or an ensemble of tests of one kind of network and one number of views.
    """
    all_tests = tests(about)
    if not all(map(_has_paper_views, all_tests)) or not _is_plain_mean(about):
        return None
    number = _from_words(about) if isinstance(about, Evaluation) else None
    if number and number.source:  # of another paper, or of another way to train the same network
        return number
    if any(test.averaging != "logits" for test in all_tests):
        return None
    networks = {(test.model.get("temporal"), test.model.get("attention")) for test in all_tests}
    views = {(test.dataset, test.crops, test.clips) for test in all_tests}
    if len(networks) == len(views) == 1 and all(map(_is_paper_network, all_tests)):
        ((temporal, attention),), ((dataset, crops, clips),) = networks, views
        frames = "+".join(map(str, sorted(test.frames for test in all_tests)))
        key = (dataset, str(temporal), str(attention), f"{frames}x{crops}x{clips}")
        if key in _NUMBERS:
            return _NUMBERS[key]
    return number


def _has_paper_views(test: Evaluation) -> bool:
    """Whether split and crop are such as the papers' tests have."""
    sizes = (224,) if test.crops == 1 else (224, 240, 256)
    return test.split in ("validation", "test") and test.crop_size in sizes


def _is_plain_mean(about: About) -> bool:
    """Whether an ensemble, and each ensemble in it, is the mean of its members' logits."""
    if isinstance(about, Evaluation):
        return True
    return (
        about.rule == "logits"
        and len(set(about.weights)) == 1
        and all(isinstance(member, Evaluation) for member in about.members)
    )


def _is_paper_network(test: Evaluation) -> bool:
    """Whether the network is one of the paper's ResNets of 50 layers."""
    fields = {
        "name": "resnet",
        "depth": 50,
        "width": 64,
        "stage_sizes": [],
        "stem": "imagenet",
        "non_local": False,
    }
    values = {name: test.model.get(name, usual) for name, usual in fields.items()}
    values["stage_sizes"] = list(values["stage_sizes"])
    return values == fields


def _from_words(test: Evaluation) -> PaperNumber | None:
    """The number in a recipe's words, if it is of this network and not of another setting."""
    words = _WORDS.fullmatch(test.paper)
    if words is None or not f"{test.network},".startswith(f"{words['network']},"):
        return None
    counts = {"frame": test.frames, "crop": test.crops, "clip": test.clips}
    for name, count in counts.items():
        stated = _COUNT[name].search(words["setting"])
        if stated and int(stated[1]) != count:
            return None
    top5 = None if words["top5"] is None else float(words["top5"])
    first = words["setting"].split(";")[0].strip()
    table = _TABLE.fullmatch(first)
    place = {"table": table[1]} if table else {"source": first}
    return PaperNumber(float(words["top1"]), top5, **place)
