"""Says what an exported network is, where it comes from and how good it is.

The model card is a page for people (.md), and the same facts for programs (.json).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from aia_jax.checkpoints.last_result import last_result
from aia_jax.checkpoints.trained_run import TrainedRun, read_manifest
from aia_jax.data.sampling import describe_clip
from aia_jax.files import write_text
from aia_jax.frame_geometry import resize_text
from aia_jax.weights.hub_config import library_versions

_SHOWN_CLASSES = 400  # on the page; the JSON has all


def card_facts(
    run: TrainedRun, file: str, content: bytes, platforms: Sequence[str]
) -> dict[str, Any]:
    """Collects all that the card says.

    Args:
        run: the exported one.
        file: name of the export.
        content: of the export.
        platforms: on which it runs.

    Returns:
        Plain values, as JSON takes them.
    """
    config, names = run.config, list(run.class_names)
    manifest, fingerprint = read_manifest(run) or ({}, None)
    return {
        "network": run.model.describe(),
        "file": {
            "name": file,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "platforms": list(platforms),
        },
        "input": {
            "name": "clips",
            "dtype": "uint8",
            "shape": ["b", *run.clip_shape],
            "meaning": "RGB frames, 0 to 255, not normalised; b is any number of clips",
        },
        "output": {
            "name": "probabilities",
            "dtype": "float32",
            "shape": ["b", len(names)],
            "meaning": "sigmoid of each class, which a clip has or not, whatever others it has"
            if run.multilabel
            else "softmax over the classes, a clip each",
        },
        "preprocessing": {
            "frames": describe_clip(
                config.data.num_frames, config.data.sampling, run.model.segment_frames
            ),
            "resize": _frame_size(config, manifest),
            "crop": config.data.crop,
        },
        "class_names": names,
        "label_kind": "multi" if run.multilabel else "single",
        "recipe": config.to_dict(),
        "training": {
            "workdir": str(run.workdir),
            "step": run.step,
            "moving_average": config.train.ema_decay > 0,
        },
        "data": {
            "name": config.data.name,
            "manifest_sha256": fingerprint,
            "videos": {
                split: facts.get("found") for split, facts in manifest.get("splits", {}).items()
            },
        },
        "metrics": {"validation": dict(run.metrics), "test": last_result(run.workdir, run.step)},
        "versions": library_versions(),
    }


def write_card(export: Path, facts: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes the page and the JSON beside an export.

    Args:
        export: the export's file; the card has its name with other endings.
        facts: from `card_facts`.

    Returns:
        The paths of page and JSON.
    """
    page, data = export.with_suffix(".md"), export.with_suffix(".json")
    write_text(page, _page(facts, data.name))
    write_text(data, json.dumps(facts, indent=1, ensure_ascii=False, default=str) + "\n")
    return page, data


def _frame_size(config: ConfigDict, manifest: Mapping[str, Any]) -> str | None:
    """The size of the frames before the crop, as the recipe says, or else the prepared data.

    None if neither says it.
    """
    return resize_text(config.data.resize) or manifest.get("options", {}).get("--size")


def _page(facts: Mapping[str, Any], json_name: str) -> str:
    file, recipe, data, training = facts["file"], facts["recipe"], facts["data"], facts["training"]
    names, pre = facts["class_names"], facts["preprocessing"]
    shape = ", ".join(map(str, facts["input"]["shape"]))
    resize = (
        f"resize them to {pre['resize']} (height × width; shortN is a short side of N pixels),"
        if pre["resize"]
        else ""
    )
    videos = ", ".join(
        f"{count:,} {split}" for split, count in data["videos"].items() if count is not None
    )
    fingerprint = (
        data["manifest_sha256"] or "unknown: the prepared data were not found when this was written"
    )
    trained = f"{training['workdir']}, step {training['step']:,}"
    if training["moving_average"]:
        trained += ", moving average of the weights"
    answer = "names[int(model(clips)[0].argmax())]"
    if facts["label_kind"] == "multi":
        answer = "[name for name, p in zip(names, model(clips)[0]) if p >= 0.5]"
    listed = "\n".join(f"{label}. {name}" for label, name in enumerate(names[:_SHOWN_CLASSES]))
    if len(names) > _SHOWN_CLASSES:
        listed += f"\n\n{len(names) - _SHOWN_CLASSES} more are in {json_name}."
    return f"""# {file["name"]}

{facts["network"]}; {len(names)} classes of {data["name"] or "an unnamed data set"}.

| | |
|---|---|
| runs on | {", ".join(file["platforms"])} |
| size | {file["bytes"]:,} bytes |
| SHA-256 | {file["sha256"]} |
| trained in | {trained} |
| data | {data["name"] or "not named"}{f" ({videos} videos)" if videos else ""} |
| SHA-256 of the data's manifest | {fingerprint} |
| activations | {recipe["model"]["compute_dtype"]} |
| made with | {", ".join(f"{name} {version}" for name, version in facts["versions"].items())} |

## How to load it

Needs the packages jax and flatbuffers, and nothing of the project that made it.

```python
import json, pathlib, jax, jax.export, numpy as np
model = jax.jit(jax.export.deserialize(pathlib.Path("{file["name"]}").read_bytes()).call)
names = json.loads(pathlib.Path("{json_name}").read_text("utf-8"))["class_names"]
clips = np.zeros((1, {", ".join(map(str, facts["input"]["shape"][1:]))}), np.uint8)  # your frames
print({answer})
```

**Input**: `clips`, uint8 [{shape}], {facts["input"]["meaning"]}. Take {pre["frames"]};
{resize} cut {pre["crop"]}×{pre["crop"]} from the centre. Normalisation is inside.

**Output**: `probabilities`, float32 [b, {len(names)}], {facts["output"]["meaning"]},
in the order of the classes below.

## Metrics

{_metrics(facts["metrics"])}

## Recipe

```json
{json.dumps(recipe, indent=1)}
```

## Classes

{listed}
"""


def _metrics(metrics: Mapping[str, Any]) -> str:
    """A line for the validation and for eval.py each, if there was one."""
    titles = {"validation": "validation while training", "test": "eval.py"}
    lines = []
    for name, title in titles.items():
        if values := metrics[name]:
            texts = [
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in values.items()
                if isinstance(value, (int, float, str))
            ]
            for key, pair in values.get("overrides", {}).items():
                texts.append(f"{key} {pair['tested']} instead of {pair['trained']}")
            lines.append(f"* {title}: {', '.join(texts)}")
    return "\n".join(lines) or "None were measured."
