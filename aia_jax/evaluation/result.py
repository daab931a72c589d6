"""What eval.py says and writes: what was measured, of which weights, on which data, and how."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aia_jax.checkpoints.last_result import RESULT_FILE
from aia_jax.checkpoints.trained_run import TrainedRun
from aia_jax.complexity import count
from aia_jax.data.views import PROTOCOLS, Views
from aia_jax.evaluation.published import published_text
from aia_jax.evaluation.run_scores import score_name
from aia_jax.evaluation.score_files import writing
from aia_jax.evaluation.scores import Evaluation
from aia_jax.files import atomic_file
from aia_jax.frame_geometry import resize_text
from aia_jax.models import clip_shape
from aia_jax.models.fields import value_text
from aia_jax.shards.fingerprint import short_text

# Overrides that a result's file name has in other words.
_IN_NAME = ("data.num_frames", "data.val_split", "data.crop", "eval.protocol", "data.dir")


def describe_test(
    run: TrainedRun,
    split: str,
    data: Mapping[str, Any],
    views: Views,
    crop: int,
    averaging: str,
    label_of: np.ndarray,
    data_name: str,
    recipe: str | None = None,
) -> Evaluation:
    """Collects what decides and describes the scores of a test.

    Args:
        run: the one that is tested, with the config of the test.
        split: that is tested.
        data: from `shards.fingerprint.describe_data`, of that split.
        views: of each video.
        crop: pixels, height and width of the network's input.
        averaging: one of `scores.AVERAGING`.
        label_of: the network's label of each of the data's classes, from `match_classes`.
        data_name: that the data were prepared under. It counts where the config gives no name, and
            where other data are tested than the config's.
        recipe: the name of the recipe that the command line gave.
    """
    config = run.config
    fingerprint = dict(data["splits"][split])
    if not np.array_equal(label_of, np.arange(len(label_of))):
        fingerprint["label_of"] = label_of.tolist()  # its labels mean other classes
    is_other = "data.dir" in run.overrides and "data.name" not in run.overrides
    cost = count(run.model, clip_shape(run.model, crop))
    overrides = [f"{key}={_text(now)}" for key, (_, now) in _changed(run, split, data).items()]
    return Evaluation(
        dataset=data_name if is_other or not config.data.name else config.data.name,
        split=split,
        label=config.data.label,
        frames=config.data.num_frames,
        crops=views.crops,
        clips=views.clips,
        crop_size=crop,
        resize=resize_text(config.data.resize),
        sampling=config.data.sampling,
        averaging=averaging,
        step=run.step,
        network=run.model.describe(),
        model=config.model.to_dict(),
        params=cost.params,
        macs=cost.macs,
        paper_flops=cost.paper_flops,
        weights=run.weights_fingerprint(),
        data=short_text(fingerprint),
        config=recipe or run.recipe.get("config") or "",
        overrides=(*run.recipe.get("overrides", ()), *overrides),
        paper=config.paper,
    )


def make_report(
    about: Evaluation,
    run: TrainedRun,
    data: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Collects what a result says of itself besides its numbers.

    Args:
        about: from `describe_test`.
        run: the one that is tested, with the config of the test.
        data: from `shards.fingerprint.describe_data`, of the split.
        notes: what the user was told.

    Returns:
        Values for JSON. "overrides" has the fields that differ from the training and decide
        numbers, with both values; "trained_with" the overrides of the training's command line.
    """
    return {
        "step": run.step,
        "split": about.split,
        "protocol": PROTOCOLS[about.clips],
        "num_frames": about.frames,
        "clips": about.clips,
        "crops": about.crops,
        "crop": about.crop_size,
        "averaging": about.averaging,
        "config": about.config or None,
        "network": about.network,
        "workdir": str(run.workdir),
        "overrides": {
            key: {"trained": before, "tested": now}
            for key, (before, now) in _changed(run, about.split, data).items()
        },
        "trained_with": list(run.recipe.get("overrides", [])),
        "weights": about.weights,
        "data": {
            "dir": data["dir"],
            "fingerprint": about.data,
            "is_the_runs": _is_the_runs(run, about.split, data),
        },
        "notes": list(notes),
    }


def result_name(about: Evaluation, report: Mapping[str, Any], usual_crop: int) -> str:
    """The name of a test's files without ending: no two sets of overrides share one.

    It is `run_scores.score_name`, with overrides that are not in it yet, and with the data's
    fingerprint if they are not the run's.

    Args:
        about: from `describe_test`.
        report: from `make_report`.
        usual_crop: the crop's size of the training.
    """
    name = score_name(about, usual_crop)
    for key, pair in report["overrides"].items():
        if key not in _IN_NAME:
            value = re.sub(r"[^\w.,-]+", "-", _text(pair["tested"]))
            name += f"_{key}={value}"
    if report["data"]["is_the_runs"] is False or "data.dir" in report["overrides"]:
        name += f"_data={about.data[:8]}"
    return name


def describe_result(result: Mapping[str, Any], files: Sequence[Path]) -> str:
    """The line that eval.py prints.

    Args:
        result: the report with the fields of `metrics.Summary`.
        files: that hold it.
    """
    changed = ", ".join(
        f"{key}={_text(pair['tested'])} instead of {_text(pair['trained'])}"
        for key, pair in result["overrides"].items()
    )
    tested = "weights" if result["step"] is None else f"step {result['step']}"
    views = "" if result["crops"] == 1 else f", {result['clips']}x{result['crops']} views"
    precision = f"mAP {result['map']:.2%}, " if "map" in result else ""
    averaging = "" if result["averaging"] == "logits" else ", probabilities averaged"
    return (
        f"{tested}, {result['split']}, {result['protocol']}{views}{averaging}"
        f"{f', with {changed}' if changed else ''}: {precision}top-1 {result['top1']:.2%}, top-5 "
        f"{result['top5']:.2%}, loss {result['loss']:.4f}, {result['evaluated']:,} of "
        f"{result['expected']:,} videos evaluated{published_text(result.get('published'))}; "
        f"{', '.join(map(str, files))}"
    )


def write_last(out: Path, result: Mapping[str, Any]) -> None:
    """Writes a result as `eval.json`, which is the last one.

    Raises:
        UserError: the file cannot be written.
    """
    path = out / RESULT_FILE
    # Several tests may run at once.
    with writing(path), atomic_file(path, "w", concurrent=True) as file:
        file.write(json.dumps(result, indent=1) + "\n")


def _is_the_runs(run: TrainedRun, split: str, data: Mapping[str, Any]) -> bool | None:
    """Whether the run was trained with this split of the data; None where that is not known."""
    trained = run.data.get("splits", {}).get(split)
    return None if trained is None else trained == data["splits"][split]


def _changed(run: TrainedRun, split: str, data: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that differ from the training, without the folder of the data where it is free.

    The run's own data may lie in another place, and for converted weights there are no own data.
    """
    free = run.step is None or _is_the_runs(run, split, data)
    return {key: pair for key, pair in run.overrides.items() if not (free and key == "data.dir")}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value)
