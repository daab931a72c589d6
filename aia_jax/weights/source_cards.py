"""How the publishers of public checkpoints tested them, and which accuracy they report.

A checkpoint does not say how many frames its network was trained with, how they are cropped, which
views of a video are averaged, and whether before or after softmax. The card of its source says it.
Every accuracy is the publisher's, in percent; none of them was measured with this code. It is None
where the publisher gives none for that very test, or where we have not got it from the publisher.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from aia_jax.data.views import Views


@dataclasses.dataclass(frozen=True)
class PublishedTest:
    """A test that the publisher made.

    Attributes:
        views: clips and crops of each video.
        crop: pixels, height and width of the network's input.
        num_frames: segments of a clip.
        averaging: what is averaged over the views: "logits" or "probabilities".
        top1, top5: the accuracies that the publisher reports, percent.
    """

    views: Views
    crop: int
    num_frames: int
    averaging: str = "logits"
    top1: float | None = None
    top5: float | None = None


@dataclasses.dataclass(frozen=True)
class SourceCard:
    """What a checkpoint of one source does not say of itself.

    Attributes:
        name: on the command line.
        publisher: in words.
        model: the fields of `config.model` that its network has.
        dataset: the data set's name, as `prepare_data.py` gives it.
        num_classes: of its head.
        resize: `data.resize` of training and test.
        sampling: `data.sampling`: the rule of frames and crops.
        tests: the publisher's; the first is what `--protocol published` makes.
        num_frames: segments of a training clip.
        crop: pixels of a training crop.
        split: of the tests, as `prepare_data.py` names it.
        sorted_classes: whether labels count through the sorted names of the classes, where the data
            set's own order is another one.
        file: how the publisher calls the file, without ending; the date after it does not count.
        note: how the publisher's test differs from the one here, in words.
        program: whose names the keys of its files have, where no other source's files have them.
    """

    name: str
    publisher: str
    model: Mapping[str, Any]
    dataset: str
    num_classes: int
    resize: str | tuple[int, int]
    sampling: str
    tests: tuple[PublishedTest, ...]
    num_frames: int = 8
    crop: int = 224
    split: str = "validation"
    sorted_classes: bool = False
    file: str = ""
    note: str = ""
    program: str = ""

    @property
    def shows_shift(self) -> bool:
        """Whether the keys of its files show TSM's shift; those of AIA's authors never do."""
        return self.model.get("temporal") == "tsm" and self.model.get("shift_blocks") == "tsm"

    def as_json(self) -> dict[str, Any]:
        """What weights.json keeps, for people; programs take the card of this name."""
        fields = ("name", "publisher", "dataset", "split", "resize", "sampling", "note")
        tests = [dataclasses.asdict(test) | {"views": str(test.views)} for test in self.tests]
        return {field: getattr(self, field) for field in fields} | {"tests": tests}


_CLASSES = {"kinetics400": 400, "ssv1": 174, "ssv2": 174}
_ONE_CROP, _TEN_CROPS, _ACCURATE, _DENSE = Views(1, 1), Views(1, 10), Views(2, 3), Views(10, 3)

# ---- mmaction2's model zoo, version 1 ------------------------------------------------------------
# configs/recognition/{tsm,tsn}/README.md, and the test pipeline of the config that it names. The
# file of a network trained by such a config says the config's name (`source_choice`).

_PREFIX = "imagenet-pretrained"
_MMACTION2_NOTE = (
    "mmaction2 rounds the long side of a resized frame to the nearest pixel, here it is rounded "
    "down, so a crop may lie up to four pixels beside theirs"
)


def _mmaction2(name: str, file: str, depth: int, frames: int, test: PublishedTest) -> SourceCard:
    """A network of mmaction2's zoo; TSM unless the file is of TSN."""
    is_tsn, dataset = file.startswith("tsn_"), "ssv2" if "sthv2" in file else "kinetics400"
    model = {"temporal": "tsn" if is_tsn else "tsm", "dropout": 0.4 if is_tsn else 0.5}
    if not is_tsn:
        model |= {"shift_blocks": "tsm", "fold_div": 8}
    return SourceCard(
        name=f"mmaction2_{name}",
        publisher="mmaction2's model zoo",
        model=_resnet(depth, **model),
        dataset=dataset,
        num_classes=_CLASSES[dataset],
        resize="short256",
        sampling="mmaction2",
        tests=(test,),
        num_frames=frames,
        file=file,
        note=_MMACTION2_NOTE,
        program="mmaction2",
    )


def _resnet(depth: int, **fields: Any) -> dict[str, Any]:
    return {"name": "resnet", "depth": depth, "attention": "none", "non_local": False, **fields}


def _ten_crops(frames: int, top1: float, averaging: str = "probabilities") -> PublishedTest:
    return PublishedTest(_TEN_CROPS, 224, frames, averaging, top1)


def _twice(frames: int, top1: float) -> PublishedTest:
    return PublishedTest(_ACCURATE, 256, frames, "probabilities", top1)


_MMACTION2 = (
    _mmaction2(
        "tsm_r50_8f_k400",
        f"tsm_{_PREFIX}-r50_8xb16-1x1x8-50e_kinetics400-rgb",
        *(50, 8, _ten_crops(8, 73.2)),
    ),
    _mmaction2(
        "tsm_r50_16f_k400",
        f"tsm_{_PREFIX}-r50_8xb16-1x1x16-50e_kinetics400-rgb",
        *(50, 16, _ten_crops(16, 75.1)),
    ),
    _mmaction2(
        "tsm_r50_8f_ssv2",
        f"tsm_{_PREFIX}-r50_8xb16-1x1x8-50e_sthv2-rgb",
        *(50, 8, _twice(8, 62.7)),
    ),
    _mmaction2(
        "tsm_r50_16f_ssv2",
        f"tsm_{_PREFIX}-r50_8xb16-1x1x16-50e_sthv2-rgb",
        *(50, 16, _twice(16, 64.2)),
    ),
    _mmaction2(
        "tsm_r101_8f_ssv2",
        f"tsm_{_PREFIX}-r101_8xb16-1x1x8-50e_sthv2-rgb",
        *(101, 8, _twice(8, 63.7)),
    ),
    # TSN trains with 8 segments and is tested with 25: these configs inherit the test pipeline of
    # 1x1x3. Its head takes the mean over the frames of all views, so softmax comes after it; TSM's
    # head keeps views apart (mmaction/models/recognizers/recognizer2d.py).
    _mmaction2(
        "tsn_r50_8f_k400",
        f"tsn_{_PREFIX}-r50_8xb32-1x1x8-100e_kinetics400-rgb",
        *(50, 8, _ten_crops(25, 74.1, "logits")),
    ),
    _mmaction2(
        "tsn_r101_8f_k400",
        f"tsn_{_PREFIX}-r101_8xb32-1x1x8-100e_kinetics400-rgb",
        *(101, 8, _ten_crops(25, 75.9, "logits")),
    ),
)

# ---- mit-han-lab's TSM (Lin et al. 2019) ---------------------------------------------------------
# Its README calls one centre crop "efficient", and two clips of full resolution "accurate".


def _mit(
    name: str,
    file: str,
    dataset: str,
    *tests: PublishedTest,
    depth: int = 50,
    non_local: bool = False,
) -> SourceCard:
    return SourceCard(
        name=f"mit_{name}",
        publisher="TSM's authors (mit-han-lab)",
        model=_resnet(depth, temporal="tsm", shift_blocks="tsm", fold_div=8, dropout=0.5)
        | {"non_local": non_local},
        dataset=dataset,
        num_classes=_CLASSES[dataset],
        resize="short256",
        sampling="reference",
        tests=tests,
        num_frames=tests[0].num_frames,
        # Their lists of Something-Something V1 count through the sorted templates.
        sorted_classes=dataset == "ssv1",
        file=f"TSM_{file}",
    )


def _efficient(frames: int, top1: float | None = None) -> PublishedTest:
    return PublishedTest(_ONE_CROP, 224, frames, top1=top1)


def _accurate(frames: int, top1: float) -> PublishedTest:
    return PublishedTest(_ACCURATE, 256, frames, top1=top1)


def _something(
    dataset: str, file: str, accurate: tuple[float, ...], efficient: tuple[float | None, ...]
) -> tuple[SourceCard, ...]:
    """TSM's networks of a version of Something-Something, with the top-1 of both tests of each."""
    rows = zip((50, 50, 101), (8, 16, 8), accurate, efficient, strict=True)
    return tuple(
        _mit(
            f"tsm_r{depth}_{frames}f_{dataset}",
            f"{file}_RGB_resnet{depth}_shift8_blockres_avg_segment{frames}_e45",
            dataset,
            *(_accurate(frames, top1), _efficient(frames, top1_of_one)),
            depth=depth,
        )
        for depth, frames, top1, top1_of_one in rows
    )


_KINETICS = "kinetics_RGB_resnet50_shift8_blockres_avg_segment"
_MIT = (
    _mit(
        "tsm_r50_8f_k400",
        f"{_KINETICS}8_e50",
        *("kinetics400", _efficient(8, 71.2), _ten_crops(8, 72.8, "logits")),
    ),
    _mit(
        "tsm_r50_16f_k400",
        f"{_KINETICS}16_e50",
        *("kinetics400", _efficient(16, 72.6), _ten_crops(16, 73.7, "logits")),
    ),
    _mit(
        "tsm_r50_8f_k400_dense",
        f"{_KINETICS}8_e100_dense",
        *("kinetics400", PublishedTest(_DENSE, 256, 8, top1=74.1)),
    ),
    _mit(
        "tsm_nl_r50_8f_k400_dense",
        f"{_KINETICS}8_e100_dense_nl",
        *("kinetics400", PublishedTest(_DENSE, 256, 8, top1=75.6)),
        non_local=True,
    ),
    *_something("ssv1", "something", (47.2, 48.4, 48.7), (45.6, 47.2, 46.9)),
    *_something("ssv2", "somethingv2", (61.2, 63.1, 63.3), (None, None, None)),
)

# ---- The authors of AIA (Hao et al. 2022): attention and frames are the recipe's -----------------
# Their numbers stand in Tables I and II of the paper (aia_jax/evaluation/paper_tables.py).

AIA = "AIA's authors"
_AIA = tuple(
    SourceCard(
        name=f"aia_{frames}f_{dataset}",
        publisher=AIA,
        model={"name": "resnet", "shift_blocks": "aia", "fold_div": 8, "dropout": 0.5},
        dataset=dataset,
        num_classes=_CLASSES[dataset],
        resize=(240, 320),
        sampling="reference",
        tests=(
            PublishedTest(_ONE_CROP, 224, frames),
            PublishedTest(Views(2, 1), 224, frames),
            PublishedTest(_ACCURATE, 240, frames),
        ),
        num_frames=frames,
        # They mirror labels of both data sets in the order of V2, which is that of sorted names.
        sorted_classes=dataset == "ssv1",
    )
    for dataset in ("ssv1", "ssv2")
    for frames in (8, 12, 16)
)

# ---- H2CN (Tan et al. 2022) ----------------------------------------------------------------------

_H2CN = tuple(
    SourceCard(
        name=f"h2cn_{frames}f_k400",
        publisher="H2CN's authors",
        model={"name": "h2cn", "depth": 50, "dropout": 0.5},
        dataset="kinetics400",
        num_classes=_CLASSES["kinetics400"],
        resize="short256",
        sampling="reference",
        tests=(PublishedTest(_DENSE, 256, frames, "probabilities", *numbers),),
        num_frames=frames,
        note="the authors draw their ten clips at random, here they are the same ten each time",
    )
    for frames, numbers in ((8, (76.9, 93.0)), (16, (77.9, 93.3)))
)

# ---- Vision transformers: TokShift (Zhang et al. 2021), MSCA (Hashiguchi & Tamaki 2022) ----------


def _vit(
    name: str, publisher: str, shift: str, div: int, top1: float | None, note: str = ""
) -> SourceCard:
    bicubic = "the authors resize frames by a bicubic filter, here it is bilinear"
    return SourceCard(
        name=f"{name}_vit_b16_8f_k400",
        publisher=publisher,
        model={"name": "vit", "size": "B", "patch": 16, "shift": shift, "shift_div": div},
        dataset="kinetics400",
        num_classes=_CLASSES["kinetics400"],
        resize="short224",
        sampling="dense32",
        tests=(PublishedTest(_DENSE, 224, 8, top1=top1),),
        note="; ".join(filter(None, (bicubic, note))),
    )


_TOKSHIFT, _MSCA = "TokShift's authors", "MSCA's authors"
_VIT = (
    _vit("tokshift_none", _TOKSHIFT, "none", 0, 76.02),
    _vit("tokshift", _TOKSHIFT, "token", 4, 77.28),
    _vit(
        *("msca_kv", _MSCA, "KV", 12, None),
        "they report 0.1 points more than for TokShift, as they trained it themselves",
    ),
)

CARDS: Mapping[str, SourceCard] = {
    card.name: card for card in (*_MMACTION2, *_MIT, *_AIA, *_H2CN, *_VIT)
}
