"""The public sources of ResNet weights, and how their keys differ from those of TSM's authors.

torchvision's names are those of TSM's authors without `base_model.` and `.net`, so they need no
rule here. mmaction2 puts a convolution and its BatchNorm into one module:

    torchvision                    mmaction2                             Hugging Face
    conv1.weight                   backbone.conv1.conv.weight            resnet.embedder.embedder
    layer1.0.bn2.bias              backbone.layer1.0.conv2.bn.bias           .convolution.weight, …
    layer2.0.downsample.0.weight   backbone.layer2.0.downsample.conv…    resnet.encoder.stages.1
    fc.weight                      cls_head.fc_cls.weight                    .layers.0.shortcut…

The *canonical key* of an array is torchvision's.
"""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from aia_jax.models import torch_keys

_PREFIXES = re.compile(r"(module\.)*((backbone|base_model|resnet)\.)?")


class Source(NamedTuple):
    """Where weights come from.

    Attributes:
        name: for people.
        rows: (beginning of a key of TSM's authors without `base_model.`, that of this source's); a
            longer key ends as it does there. `_NUMBERS` has what stands in braces.
        marks: pattern of the beginnings of keys, without prefixes, that show this source.
    """

    name: str
    rows: tuple[tuple[str, str], ...]
    marks: str


# Numbers in keys. Those of a name with 0 count from 0 where TSM's authors count from 1. Beside a
# block's number a wrapper may stand.
_NUMBERS = {
    "{stage}": r"(?P<stage>\d+)",
    "{stage0}": r"(?P<stage0>\d+)",
    "{block}": r"(?P<block>(?:net\.)?\d+(?:\.block|\.net)?)",
    "{n}": r"(?P<n>\d)",
    "{n0}": r"(?P<n0>\d)",
}

_BLOCK, _MM_BLOCK = "layer{stage}.{block}.", "backbone.layer{stage}.{block}."
_MM_NON_LOCAL = f"{_MM_BLOCK}non_local_block."
MMACTION = Source(
    "mmaction2",
    (
        ("conv1.", "backbone.conv1.conv."),
        ("bn1.", "backbone.conv1.bn."),
        (f"{_BLOCK}conv{{n}}.", f"{_MM_BLOCK}conv{{n}}.conv."),
        (f"{_BLOCK}bn{{n}}.", f"{_MM_BLOCK}conv{{n}}.bn."),
        (f"{_BLOCK}downsample.0.", f"{_MM_BLOCK}downsample.conv."),
        (f"{_BLOCK}downsample.1.", f"{_MM_BLOCK}downsample.bn."),
        # The blocks of its configs; those that do not pool have `g.conv` and `phi.conv`.
        (f"{_BLOCK}nl.theta.", f"{_MM_NON_LOCAL}theta.conv."),
        (f"{_BLOCK}nl.phi.0.", f"{_MM_NON_LOCAL}phi.0.conv."),
        (f"{_BLOCK}nl.g.0.", f"{_MM_NON_LOCAL}g.0.conv."),
        (f"{_BLOCK}nl.W.0.", f"{_MM_NON_LOCAL}conv_out.conv."),
        (f"{_BLOCK}nl.W.1.", f"{_MM_NON_LOCAL}conv_out.bn."),
        ("fc.", "cls_head.fc_cls."),
    ),
    marks=r"cls_head\.|conv1\.(conv|bn)\.|layer1\.0\.(net\.|block\.)?conv\d\.(conv|bn)\.",
)

_HF_BLOCK = "resnet.encoder.stages.{stage0}.layers.{block}."
HUGGING_FACE = Source(
    "Hugging Face",
    (
        ("conv1.", "resnet.embedder.embedder.convolution."),
        ("bn1.", "resnet.embedder.embedder.normalization."),
        (f"{_BLOCK}conv{{n}}.", f"{_HF_BLOCK}layer.{{n0}}.convolution."),
        (f"{_BLOCK}bn{{n}}.", f"{_HF_BLOCK}layer.{{n0}}.normalization."),
        (f"{_BLOCK}downsample.0.", f"{_HF_BLOCK}shortcut.convolution."),
        (f"{_BLOCK}downsample.1.", f"{_HF_BLOCK}shortcut.normalization."),
        ("fc.", "classifier.1."),
    ),
    marks=r"encoder\.stages\.\d+\.layers\.\d+\.layer\.\d+\.convolution\.",
)

# OpenMMLab's classifiers of images have torchvision's names behind `backbone.`.
MMPRETRAIN = Source("mmpretrain", (("fc.", "head.fc."),), marks=r"head\.fc\.")

SOURCES = (MMACTION, HUGGING_FACE, MMPRETRAIN)

_MARKS = [(re.compile(source.marks), source) for source in SOURCES]


def _pattern(begin: str) -> re.Pattern[str]:
    """Matches a whole key, without prefixes, that begins as a row of a table says."""
    text = re.escape(_PREFIXES.sub("", begin, count=1))
    for name, number in _NUMBERS.items():
        text = text.replace(re.escape(name), number)
    return re.compile(rf"{text}(?P<end>(?:net\.)?\w+)")


def _translate(key: str, rows: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    """A key by the first row (pattern, beginning of the new key) that matches it."""
    for pattern, begin in rows:
        if match := pattern.fullmatch(key):
            numbers = match.groupdict()
            for name in ("stage", "n"):
                if name in numbers:
                    numbers[f"{name}0"] = int(numbers[name]) - 1
                elif f"{name}0" in numbers:
                    numbers[name] = int(numbers[f"{name}0"]) + 1
            return begin.format(**numbers) + match["end"]
    return None


_READ = [(_pattern(theirs), begin) for source in SOURCES for begin, theirs in source.rows]


@functools.cache
def _rows_to_write(source: Source) -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(begin), theirs) for begin, theirs in source.rows]


def tsm_key(key: str) -> str:
    """A key of any source as TSM's authors have it, without prefixes.

    `.net`, which shows a shift, and `.block`, which shows a non-local block, stay:
    `backbone.layer2.0.block.conv1.conv.net.weight` → `layer2.0.block.conv1.net.weight`.
    """
    short = _short(key)
    return _translate(short, _READ) or short


def key_of_source(key: str, source: Source) -> str:
    """The opposite of `tsm_key`: a source's name of an array.

    Raises:
        KeyError: the source has no such array.
    """
    name = _translate(key, _rows_to_write(source))
    if name is None:
        raise KeyError(f"{source.name} has no name for {key}")
    return name


def canonical_key(key: str) -> str:
    """A key of any source as torchvision has it; the key itself where no source has it."""
    plain = torch_keys.canonical_key(tsm_key(key))
    return re.sub(r"(layer\d+\.\d+)\.block\.", r"\1.", plain)


def find_source(keys: Iterable[str]) -> Source | None:
    """The source that a state dict's keys show; None for torchvision's names and TSM's."""
    for short in map(_short, keys):
        for mark, source in _MARKS:
            if mark.match(short):
                return source
    return None


def shows_every_shift(keys: Iterable[str]) -> bool:
    """Whether a network without `.net` in its keys is a TSN, and not only a start for any network.

    It is where mmaction2 has trained it to classify videos. The AIA authors wrote no `.net` for
    their TSM, and ImageNet's networks start both TSN and TSM.
    """
    return any(_short(key).startswith("cls_head.fc_cls.") for key in keys)


def _short(key: str) -> str:
    return _PREFIXES.sub("", key, count=1)
