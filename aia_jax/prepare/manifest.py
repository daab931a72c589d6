"""The content of manifest.json, and the plan by which a run recognises an earlier run's work."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import av
import numpy as np

from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.shard import ShardJob, ShardNotes
from aia_jax.shards.index import Index

_PACKAGES = (
    "av",
    "simplejpeg",
    "opencv-python-headless",
    "numpy",
    "google-crc32c",
    "tensorflow-datasets",
)
# What a split's summary has in every version of this program.
SUMMARY_KEYS = frozenset(
    (
        *("expected", "found", "missing", "bad", "frames", "bytes", "shards", "videos_per_class"),
        *("sources", "missing_frame_numbers"),
    )
)
_MOST_VALUES = 20  # of a distribution; the rest are added up as "other"


def make_plan(data_set: str, options: Mapping[str, Any], dataset: RawDataset) -> dict[str, Any]:
    """Collects everything that decides the bytes of the result: options and raw videos.

    Args:
        data_set: the reader's name, as "folders".
        options: those of the command that change the result, by flag, with plain values.
        dataset: what the reader found.
    """
    videos = sorted(
        (v.split, v.video_id, sorted(v.labels.items()), v.size, str(v.segment), v.missing)
        for v in dataset.videos
    )
    text = json.dumps(
        [videos, sorted((label, list(names)) for label, names in dataset.class_names.items())]
    )
    return {
        "data_set": data_set,
        "name": dataset.name,
        "options": dict(options),
        "videos": dict(sorted(Counter(video.split for video in dataset.videos).items())),
        "videos_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def describe_difference(earlier: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """Says how a plan differs from an earlier run's plan or manifest; empty if it does not."""
    differences = []
    for key, name in (("data_set", "the data set"), ("name", "--name")):
        if earlier[key] != plan[key]:
            differences.append(f"{name} was {earlier[key]}, now {plan[key]}")
    for flag in sorted(earlier["options"].keys() | plan["options"].keys()):
        before, now = earlier["options"].get(flag), plan["options"].get(flag)
        if before != now:
            differences.append(f"{flag} was {before}, now {now}")
    if not differences and earlier["videos_sha256"] != plan["videos_sha256"]:
        before, now = _count_videos(earlier), _count_videos(plan)
        if before == now:
            now = "the same numbers with other names, classes or sizes"
        differences.append(f"the raw videos were {before}, now {now}")
    return "; ".join(differences)


def _count_videos(plan: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {split}" for split, count in plan["videos"].items())


def summarize_split(
    index: Index,
    jobs: Sequence[ShardJob],
    notes: Sequence[ShardNotes],
    class_names: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Computes the manifest's numbers on one finished split.

    Args:
        index: of the split.
        jobs: its shards.
        notes: of its shards, in the same order.
        class_names: by label feature.
    """
    expected = sum(len(job.videos) for job in jobs)
    missing = sum(video.missing for job in jobs for video in job.videos)
    return {
        "expected": expected,
        "found": len(index),
        "missing": missing,
        "bad": expected - missing - len(index),
        "frames": int(index.num_frames.sum()),
        "bytes": sum(shard.size for shard in index.shards),
        "shards": [
            {"file": shard.name, "videos": note.records, "bytes": shard.size}
            for shard, note in zip(index.shards, notes, strict=True)
        ],
        "videos_per_class": {
            label: _count_classes(index.label_set(label).values, names)
            for label, names in class_names.items()
        },
        "frames_per_video": _percentiles(index.num_frames),
        "fps": _distribution(f"{rate:.3g}" if rate else "unknown" for rate in index.fps.tolist()),
        "height_x_width": _distribution(
            f"{h}x{w}" for h, w in zip(index.height.tolist(), index.width.tolist(), strict=True)
        ),
        "sources": _most_common(sum((note.forms for note in notes), Counter())),
        "end_unchecked": sum(note.end_unchecked for note in notes),
        "missing_frame_numbers": {
            video_id: gaps for note in notes for video_id, gaps in note.gaps.items()
        },
        "other_lengths": {
            video_id: list(counts)
            for note in notes
            for video_id, counts in note.other_lengths.items()
        },
    }


def format_manifest(
    plan: Mapping[str, Any],
    dataset: RawDataset,
    command: str,
    splits: Mapping[str, Mapping[str, Any]],
) -> str:
    """Makes the text of manifest.json.

    Nothing in it depends on when or how fast the data set was made, or on how many runs it took.

    Args:
        plan: from `make_plan`.
        dataset: what the reader found.
        command: a command line that makes the data set again.
        splits: from `summarize_split`, by name.
    """
    manifest = {
        **plan,
        "command": command,
        "class_names": {label: list(names) for label, names in dataset.class_names.items()},
        "splits": splits,
        "remarks": list(dataset.remarks),
        "annotations_sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dataset.annotations
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
            "ffmpeg": {
                name: ".".join(map(str, version)) for name, version in av.library_versions.items()
            },
        },
    }
    return json.dumps(manifest, indent=1, ensure_ascii=False)


def _count_classes(labels: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels, minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def _percentiles(values: np.ndarray) -> dict[str, float]:
    percents = {"min": 0, "5%": 5, "median": 50, "95%": 95, "max": 100}
    return {name: float(np.percentile(values, percent)) for name, percent in percents.items()} | {
        "mean": round(float(values.mean()), 2)
    }


def _distribution(values: Iterable[str]) -> dict[str, int]:
    return _most_common(Counter(values))


def _most_common(counts: Counter) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(count for _, count in ranked[_MOST_VALUES:])
    return dict(ranked[:_MOST_VALUES]) | ({"other": rest} if rest else {})
