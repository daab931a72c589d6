"""The page of a folder for a model hub: README.md, with the YAML header that hubs show."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aia_jax.checkpoints.last_result import all_results
from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.data.sampling import describe_clip
from aia_jax.frame_geometry import resize_text
from aia_jax.weights.hub_config import HUB_CONFIG, HUB_WEIGHTS, LIBRARY

_TASK = "video-classification"
_SHOWN_CLASSES = 400  # on the page; config.json has all


class Measured(NamedTuple):
    """The accuracy of a test that this program has made.

    Attributes:
        test: what was tested, and how.
        dataset: its name; "" where nobody named it.
        split: as `prepare_data.py` names it.
        top1, top5: fractions; None where it was not measured.
        map: mean average precision, a fraction; None for one label a video.
    """

    test: str
    dataset: str
    split: str
    top1: float
    top5: float | None
    map: float | None

    @property
    def shown(self) -> list[tuple[str, float]]:
        """The names of the metrics that there are, and their percent; the first counts most."""
        values = {"mAP": self.map, "top-1": self.top1, "top-5": self.top5}
        return [
            (name, round(100 * float(value), 2))
            for name, value in values.items()
            if value is not None
        ]


def measured(run: TrainedRun) -> list[Measured]:
    """The validation in training at this checkpoint, and the tests of eval.py that lie beside."""
    data, found = run.config.data, []
    if "top1" in run.metrics:
        test = f"validation while training, step {run.step}{_missing(run.metrics)}"
        found.append(Measured(test, data.name, data.val_split, *_numbers(run.metrics)))
    for report in all_results(run.workdir, run.weights_fingerprint()):
        test = (
            f"eval.py, {report.get('clips')}x{report.get('crops')} views of "
            f"{report.get('num_frames')} frames, crop {report.get('crop')}, "
            f"{report.get('averaging')} averaged"
        )
        for key, pair in (report.get("overrides") or {}).items():
            if not key.endswith(".dir"):  # a path of this machine
                test += f", {key} {pair['tested']} instead of {pair['trained']}"
        dataset = (report.get("about") or {}).get("dataset") or data.name
        split = report.get("split") or ""
        one = Measured(test + _missing(report), dataset, split, *_numbers(report))
        if one not in found:  # the last result is there twice
            found.append(one)
    return found


def hub_page(run: TrainedRun, config: Mapping[str, Any], license_name: str | None) -> str:
    """README.md.

    Args:
        run: the network that is published.
        config: the content of config.json.
        license_name: of the weights, as hubs abbreviate it; None: the publisher has chosen none.
    """
    results, data = measured(run), run.config.data
    origin = config.get("training") or config.get("card") or {}
    dataset = data.name or origin.get("dataset") or ""
    title = run.model.describe() + (f", {dataset}" if dataset else "")
    clip = describe_clip(data.num_frames, data.sampling, run.model.segment_frames)
    mean, std = (", ".join(map(str, config["pixels"][key])) for key in ("mean", "std"))
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    return f"""---
{_header(run, title, dataset, results, license_name)}---

# {title}

{run.model.describe()}; {len(run.class_names)} classes{f" of {dataset}" if dataset else ""}\
{", of which a video may have several (sigmoid)" if run.multilabel else ""}. \
Weights of {LIBRARY}, float32: `{HUB_WEIGHTS}`, SHA-256 {config["sha256"]}.
{_origin(run, config)}

## How to use it

```python
import aia_jax

network = aia_jax.load("FOLDER")  # with {HUB_CONFIG} and {HUB_WEIGHTS}
print(network.predict(["clip.mp4"]).{"above(0.5)" if run.multilabel else "top(5)"})
```

`python predict.py clip.mp4 --weights FOLDER` and `python eval.py --weights FOLDER --data DIR` take
the folder too.

## Input

Of a video the network takes {clip}. Frames have {resize_text(data.resize)} pixels
(height × width; shortN is a short side of N) and are cut to {data.crop}×{data.crop}.
Pixels are RGB from 0 to 1, normalised by the mean {mean} and the deviation {std}.

## Results

{_results(results, config.get("card"))}

## License

{license_name or "The publisher of this folder has not said under which license it is."}

## Network

```json
{json.dumps(config["model"], indent=1)}
```
{_recipe(run)}
Made with {versions}.

## Classes

{_classes(run)}
"""


def _header(
    run: TrainedRun,
    title: str,
    dataset: str,
    results: Sequence[Measured],
    license_name: str | None,
) -> str:
    """The lines of the YAML header."""
    tags = [_TASK, "jax", "flax", str(run.config.model.name)]
    if temporal := run.config.model.get("temporal"):
        tags.append(temporal)
    if tag := re.sub(r"[^\w.-]+", "-", dataset):
        tags.append(tag)
    lines = [f"license: {_yaml(license_name)}"] if license_name else []
    lines += [f"library_name: {LIBRARY}", f"pipeline_tag: {_TASK}", "tags:"]
    lines += [f"- {_yaml(tag)}" for tag in dict.fromkeys(tags)]
    if results:
        lines += ["model-index:", f"- name: {_yaml(title)}", "  results:"]
    for one in results:
        name = _yaml(one.dataset or "not named")
        lines += ["  - task:", f"      type: {_TASK}", "    dataset:"]
        lines += [f"      name: {name}", f"      type: {name}", f"      split: {_yaml(one.split)}"]
        lines.append("    metrics:")
        for metric, value in one.shown:
            kind = "mean_average_precision" if metric == "mAP" else "accuracy"
            lines += [f"    - type: {kind}", f"      value: {value}"]
            lines.append(f"      name: {_yaml(f'{metric}, percent: {one.test}')}")
    return "".join(f"{line}\n" for line in lines)


def _yaml(text: str) -> str:
    """A text as YAML takes it: JSON's quotes are YAML's too, which takes no control characters."""
    printable = "".join(one if one.isprintable() else " " for one in text)
    return json.dumps(printable, ensure_ascii=False)


def _numbers(report: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    """The last fields of `Measured`, of a validation or of a test's eval.json."""
    return report["top1"], report.get("top5"), report.get("map")


def _missing(report: Mapping[str, Any]) -> str:
    """Says how many videos were evaluated, if not all."""
    evaluated, expected = report.get("evaluated"), report.get("expected")
    return "" if evaluated == expected else f", {evaluated} of {expected} videos"


def _results(results: Sequence[Measured], card: Mapping[str, Any] | None) -> str:
    """What was measured here, and apart from it what the source of the weights publishes."""
    lines = ["Measured with this code:", ""]
    names = list(dict.fromkeys(name for one in results for name, _ in one.shown))
    lines.append(f"| test | data |{''.join(f' {name}, % |' for name in names)}")
    lines.append("|---|---|" + "---|" * len(names))
    for one in results:
        data, numbers = f"{one.dataset or 'not named'}, {one.split}", dict(one.shown)
        cells = "".join(f" {numbers.get(name, '')} |" for name in names)
        lines.append(f"| {one.test} | {data} |{cells}")
    if not results:
        lines = ["None were measured with this code."]
    published = [test for test in (card or {}).get("tests", ()) if test.get("top1") is not None]
    if published:
        lines += ["", f"Published by {card['publisher']}, not measured here:", ""]
    for test in published:
        top5 = "" if test.get("top5") is None else f", top-5 {test['top5']}%"
        lines.append(
            f"* {card['dataset']}, {card['split']}, {test['views']} views of {test['num_frames']} "
            f"frames, crop {test['crop']}, {test['averaging']} averaged: top-1 {test['top1']}%"
            f"{top5}"
        )
    return "\n".join(lines)


def _origin(run: TrainedRun, config: Mapping[str, Any]) -> str:
    """Where the weights come from."""
    training, source = config.get("training"), config.get("source") or {}
    if training:
        average = ", moving average of the weights" if training.get("moving_average") else ""
        recipe = f" by the recipe `{training['recipe']}`" if training.get("recipe") else ""
        return f"Trained with this code{recipe}: step {training.get('step')}{average}."
    card = config.get("card")
    publisher = f" of {card['publisher']} (source {card['name']})" if card else ""
    file = f" `{source['file']}`, SHA-256 {source.get('sha256')}" if source.get("file") else ""
    return f"Converted from a checkpoint{publisher}{file}; not trained with this code."


def _recipe(run: TrainedRun) -> str:
    """The recipe of a training."""
    if run.step is None:
        return ""
    sections = {name: run.config[name].to_dict() for name in ("train", "optim")}
    return f"\nTrained with\n\n```json\n{json.dumps(sections, indent=1, default=str)}\n```\n"


def _classes(run: TrainedRun) -> str:
    if not run.names_known:
        return f"{len(run.class_names)}, which nobody has named."
    listed = [f"{label}. {name}" for label, name in enumerate(run.class_names[:_SHOWN_CLASSES])]
    if len(run.class_names) > _SHOWN_CLASSES:
        listed.append(f"\n{len(run.class_names) - _SHOWN_CLASSES} more are in {HUB_CONFIG}.")
    return "\n".join(listed)
