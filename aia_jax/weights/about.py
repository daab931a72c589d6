"""What a file of weights says beside their numbers: classes, epoch, config, and who wrote it.

Readers of files return a `StateDictFile`. Who converts the weights takes the arrays from it; who
looks for the published protocol of a source, or names the classes of a head, reads its `about`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aia_jax.errors import shorten
from aia_jax.weights.pickled_types import as_plain


@dataclasses.dataclass(frozen=True)
class About:
    """What a file says of its weights; a field is None where the file does not say.

    All of it is the file's own word: the number of class names is not compared with the head's.

    Attributes:
        class_names: by label.
        epoch: of the training, as its program counts.
        config_text: the config of the program that trained them, as a text in its own language:
            Python (mmaction2, mmengine), YAML, or JSON (`config.json` beside a file of a model
            hub).
        source: the program that wrote the file, with its version where that is known, such as
            "mmaction2 0.12.0", "mmengine 0.10.1" or "config.json of ResNetForImageClassification".
    """

    class_names: tuple[str, ...] | None = None
    epoch: int | None = None
    config_text: str | None = None
    source: str | None = None


@dataclasses.dataclass(frozen=True)
class StateDictFile:
    """The content of a file of weights.

    Attributes:
        arrays: key → array, of the one state dict that was taken. The dict belongs to who asked
            for it: who converts the arrays may empty it, so that memory holds each of them once.
        about: what the file says beside the numbers.
        notes: lines for people, on what was taken and what was left, such as a moving average
            beside the weights, an optimizer's state, or arrays that are there twice.
    """

    arrays: dict[str, np.ndarray]
    about: About = About()
    notes: tuple[str, ...] = ()


def find_about(content: Any) -> About:
    """What a checkpoint of a training program says of its weights.

    Args:
        content: of the file, as `read_pickle` returns it.
    """
    if not isinstance(content, Mapping):
        return About()
    meta = _mapping(content.get("meta"))
    hub = _mapping(_mapping(content.get("message_hub")).get("runtime_info"))
    places = (meta, _mapping(meta.get("dataset_meta")), _mapping(hub.get("dataset_meta")), content)
    named = (find_names(place) for place in places)
    epochs = (place.get("epoch") for place in (meta, content, hub))
    texts = (place.get(key) for place in (meta, hub, content) for key in ("cfg", "config"))
    return About(
        class_names=next(filter(None, named), None),
        epoch=next((epoch for epoch in epochs if type(epoch) is int and epoch >= 0), None),
        config_text=next((text for text in texts if isinstance(text, str) and text), None),
        source=_find_source(content, meta),
    )


def find_names(values: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """The names of classes in a mapping of a checkpoint or a JSON file; None where it has none."""
    for key in ("CLASSES", "classes", "class_names", "label_names"):
        names = as_plain(values.get(key))
        if isinstance(names, np.ndarray):
            names = names.tolist()
        if isinstance(names, list | tuple) and names and _are_texts(names):
            return tuple(names)
    for key in ("id2label", "idx_to_class", "class_to_idx"):
        pairs = list(_mapping(values.get(key)).items())
        if key == "class_to_idx":
            pairs = [(label, name) for name, label in pairs]
        labels = {str(label): name for label, name in pairs if isinstance(label, str | int)}
        names = [labels.get(str(label)) for label in range(len(pairs))]
        # Hugging Face's library names classes LABEL_0 … where nobody did.
        if names and _are_texts(names) and names[0] != "LABEL_0":
            return tuple(names)
    return None


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _find_source(content: Mapping[Any, Any], meta: Mapping[Any, Any]) -> str | None:
    """The program that wrote a checkpoint, by the version that it left there."""
    for place, key, program in (
        (meta, "mmaction_version", "mmaction2"),
        (meta, "mmaction2_version", "mmaction2"),
        (meta, "mmengine_version", "mmengine"),
        (meta, "mmcv_version", "mmcv"),
        (content, "pytorch-lightning_version", "PyTorch Lightning"),
    ):
        if isinstance(version := place.get(key), str):
            return f"{program} {shorten(version)}"
    arch = content.get("arch")  # timm's training program, and those after PyTorch's examples
    return f"a training of {shorten(arch)}" if isinstance(arch, str) and arch else None
