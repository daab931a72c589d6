"""The truth about a prepared data set, as numbers: manifest.json, and the plan that two runs must
share to go on with one another.
"""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import av
import numpy as np

from aia_jax.prepare.item import RawDataset
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
_SHOWN = 20  # entries of a distribution; the rest are added up under "other"


def plan_of(data_set: str, options: Mapping[str, Any], dataset: RawDataset) -> dict[str, Any]:
    """What decides the bytes of the result: the options, and the raw videos as the reader found
    them.

    Args:
        data_set: the reader's name, as "folders".
        options: those of the command that change the result, by flag, with plain values.
        dataset: what the reader found.
    """
    listed = sorted(
        (v.split, v.video_id, sorted(v.labels.items()), v.size, str(v.part), v.missing)
        for v in dataset.videos
    )
    text = json.dumps(
        [listed, sorted((label, list(names)) for label, names in dataset.class_names.items())]
    )
    return {
        "data_set": data_set,
        "name": dataset.name,
        "options": dict(options),
        "videos": dict(sorted(Counter(video.split for video in dataset.videos).items())),
        "videos_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def what_differs(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Says how the plan of an earlier run (or its manifest) differs from that of this one; empty if
    it does not.
    """
    said = []
    for key, what in (("data_set", "the data set"), ("name", "--name")):
        if then[key] != now[key]:
            said.append(f"{what} was {then[key]}, now {now[key]}")
    for flag in sorted(then["options"].keys() | now["options"].keys()):
        was, is_ = then["options"].get(flag), now["options"].get(flag)
        if was != is_:
            said.append(f"{flag} was {was}, now {is_}")
    if not said and then["videos_sha256"] != now["videos_sha256"]:
        were, are = (
            ", ".join(f"{count} {split}" for split, count in plan["videos"].items())
            for plan in (then, now)
        )
        if were == are:
            are = "the same numbers with other names, classes or sizes"
        said.append(f"the raw videos were {were}, now {are}")
    return "; ".join(said)


def split_facts(
    index: Index,
    jobs: Sequence[ShardJob],
    notes: Sequence[ShardNotes],
    class_names: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The numbers of one finished split."""
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
            label: dict(
                zip(
                    names,
                    np.bincount(index.labels[label], minlength=len(names)).tolist(),
                    strict=True,
                )
            )
            for label, names in class_names.items()
        },
        "frames_per_video": _spread(index.num_frames),
        "fps": _distribution(f"{rate:.3g}" if rate else "unknown" for rate in index.fps.tolist()),
        "height_x_width": _distribution(
            f"{h}x{w}" for h, w in zip(index.height.tolist(), index.width.tolist(), strict=True)
        ),
        "sources": _top(sum((note.forms for note in notes), Counter())),
        "missing_frame_numbers": {
            video_id: gaps for note in notes for video_id, gaps in note.gaps.items()
        },
    }


def make_manifest(
    plan: Mapping[str, Any],
    dataset: RawDataset,
    command: str,
    splits: Mapping[str, Mapping[str, Any]],
) -> str:
    """manifest.json. Nothing in it depends on when, how fast or in how many goes the data set was
    made.
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


def _spread(values: np.ndarray) -> dict[str, float]:
    at = {"min": 0, "5%": 5, "median": 50, "95%": 95, "max": 100}
    return {name: float(np.percentile(values, share)) for name, share in at.items()} | {
        "mean": round(float(values.mean()), 2)
    }


def _distribution(values: Iterable[str]) -> dict[str, int]:
    return _top(Counter(values))


def _top(counts: Counter) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(count for _, count in ranked[_SHOWN:])
    return dict(ranked[:_SHOWN]) | ({"other": rest} if rest else {})
