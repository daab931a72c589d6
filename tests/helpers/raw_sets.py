"""Tiny raw folders in the official layouts of the published data sets, and their preparation."""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aia_jax.errors import UserError
from aia_jax.prepare.manifest import make_plan
from aia_jax.prepare.raw_dataset import RawDataset
from aia_jax.prepare.write import prepare
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.reader import open_split
from aia_jax.video.frame_size import FrameFormat, FrameSize
from tests.helpers.raw_videos import numbered_frames, write_frames, write_video


class InlinePool:
    """A pool that runs each job in this process as it is submitted; takes a pool's arguments."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self) -> "InlinePool":
        return self

    def __exit__(self, *exception) -> None:
        pass

    def submit(self, function: Callable, job: Any) -> Future:
        future = Future()
        future.set_result(function(job))
        return future

    def progress(self) -> tuple[int, int]:
        return 0, 0

    def check_workers(self) -> None:
        pass

    def explain(self, error: BaseException) -> str:
        return ""


def read(reader: ModuleType, raw: Path, *arguments: str) -> RawDataset:
    """Lists the videos of a raw folder; `arguments` are the reader's own options."""
    parser = argparse.ArgumentParser()
    reader.add_arguments(parser)
    return reader.read(raw, parser.parse_args(arguments))


def read_error(reader: ModuleType, raw: Path, *arguments: str) -> str:
    """The error of a reader for which something is wrong."""
    with pytest.raises(UserError) as caught:
        read(reader, raw, *arguments)
    return str(caught.value)


def prepare_set(reader: ModuleType, raw: Path, out: Path, *arguments: str) -> dict[str, Any]:
    """Prepares a raw folder in this process, frames of 24×32; returns the manifest."""
    dataset = read(reader, raw, *arguments)
    plan = make_plan(reader.__name__, {}, dataset)
    frame_format = FrameFormat(FrameSize(height=24, width=32))
    return prepare(dataset, plan, frame_format, out, InlinePool(), "the command")


def records(out: Path, split: str, *labels: str) -> dict[str, tuple]:
    """The class names and the number of frames of each video, by its id."""
    index = open_split(out, split).index
    class_names = {label: open_dataset(out, label).class_names for label in labels}
    return {
        index.video_id(k): (
            *(names[index.labels[label][k]] for label, names in class_names.items()),
            int(index.num_frames[k]),
        )
        for k in range(len(index.num_frames))
    }


def write_clip(path: Path, count: int = 4, height: int = 24, width: int = 32) -> Path:
    return write_video(path, numbered_frames(count, height, width))


def write_lines(path: Path, *rows: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding=encoding)
    return path


def write_table(path: Path, columns: str, *rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


# Something-Something: the class ids of V1 follow the order of its file, those of V2 the indices in
# its file. So a flip swaps other ids in each.
TEMPLATES = [
    "Pushing something from right to left",
    "Holding something",
    "Pushing something from left to right",
]


def make_ssv1(raw: Path) -> Path:
    write_lines(raw / "something-something-v1-labels.csv", *TEMPLATES)
    write_lines(
        raw / "something-something-v1-train.csv", f"100218;{TEMPLATES[2]}", f"24413;{TEMPLATES[0]}"
    )
    write_lines(raw / "something-something-v1-validation.csv", f"7;{TEMPLATES[1]}")
    write_lines(raw / "something-something-v1-test.csv", "4")
    for video, count in (("100218", 5), ("24413", 6), ("7", 7), ("4", 3)):
        write_frames(raw / "20bn-something-something-v1" / video, numbered_frames(count, 20, 36))
    return raw


def make_ssv2(raw: Path, newer: bool) -> Path:
    name = "labels/{}.json" if newer else "something-something-v2-{}.json"
    items = {"train": [("78687", 0), ("9", 2)], "validation": [("42326", 1)]}
    contents = {"labels": {template: str(k) for k, template in enumerate(sorted(TEMPLATES))}}
    for split, videos in items.items():
        contents[split] = [
            {
                "id": video,
                "label": "pushing a box",
                "template": TEMPLATES[k].replace("something", "[something]"),
                "placeholders": ["a box"],
            }
            for video, k in videos
        ]
    contents["test"] = [{"id": "1420"}]
    for part, content in contents.items():
        write_lines(raw / name.format(part), json.dumps(content))
    if newer:
        write_lines(raw / "labels" / "test-answers.csv", f"1420;{TEMPLATES[1]}")
    for video, count in (("78687", 5), ("9", 6), ("42326", 7), ("1420", 4)):
        write_clip(raw / "20bn-something-something-v2" / f"{video}.webm", count)
    return raw


VOCABULARY = [
    ["Back", "15som", "05Twis", "FREE"],
    ["Forward", "Dive", "NoTwis", "PIKE"],
    ["Inward", "25som", "NoTwis", "TUCK"],
]


def make_diving48(raw: Path) -> Path:
    write_lines(raw / "Diving48_vocab.json", json.dumps(VOCABULARY))
    items = {"train": [("_8Vy3dlHg2w_00000", 2), ("Y-z_00001", 0)], "test": [("aA_00002", 1)]}
    for split, videos in items.items():
        entries = [
            {"vid_name": name, "label": label, "start_frame": 0, "end_frame": 9}
            for name, label in videos
        ]
        write_lines(raw / f"Diving48_V2_{split}.json", json.dumps(entries))
        for number, (name, _) in enumerate(videos):
            write_clip(raw / "rgb" / f"{name}.mp4", 5 + number, height=48, width=32)
    return raw


def make_egtea(raw: Path) -> Path:
    write_lines(
        raw / "action_idx.txt", "Inspect/Read recipe 1", "Open fridge 2", "Cut tomato (knife) 3"
    )
    clips = {
        name: 4 + k
        for k, name in enumerate(
            (
                "P26-R05-Cheeseburger-1002316-1004005-F024051",
                "OP01-R01-PastaSalad-1-2-F3-F4",
                "P1-R2-X-5",
            )
        )
    }
    for split, order in ((1, (0, 1, 2)), (2, (2, 0, 1))):
        names = [list(clips)[k] for k in order]
        write_lines(raw / f"train_split{split}.txt", f"{names[0]} 3 1 2 3 ", f"{names[1]} 1 1 1")
        write_lines(raw / f"test_split{split}.txt", f"{names[2]} 2 1 4")
    for name, count in clips.items():
        write_clip(raw / "cropped_clips" / "-".join(name.split("-")[:3]) / f"{name}.mp4", count)
    return raw


EPIC_COLUMNS = (
    "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)


def epic_row(uid: int, video: str, start: float, stop: float, verb: int, noun: int) -> list[Any]:
    stamps = [f"00:00:{second:05.2f}" for second in (start, stop)]
    frames = [int(start * 10) + 1, int(stop * 10)]
    return [
        uid,
        video[:3],
        video,
        "open, the door",
        *stamps,
        *frames,
        "open",
        verb,
        "door",
        noun,
        "['door', 'pan:dust']",
        f"[{noun}]",
    ]


def make_epic55(raw: Path, rows: Sequence[Sequence[Any]]) -> Path:
    write_table(raw / "EPIC_train_action_labels.csv", EPIC_COLUMNS, *rows)
    for kind, count in (("verb", 125), ("noun", 352)):
        write_table(
            raw / f"EPIC_{kind}_classes.csv",
            f"{kind}_id,class_key,{kind}s",
            *([k, f"{kind}:{k}", f"['{k}']"] for k in range(count)),
        )
    return raw


def make_kinetics400(raw: Path) -> Path:
    columns = "label,youtube_id,time_start,time_end,split"
    train = [
        ["zumba", "-a_B", 10, 20, "train"],
        ["abseiling", "bbb", 0, 10, "train"],
        ["eating cake", "gone", 5, 15, "train"],
    ]
    write_table(raw / "train.csv", columns, *train)
    write_table(
        raw / "validate.csv", columns + ",is_cc", ["eating cake", "ccc", 123456, 123466, "val", 0]
    )
    write_table(raw / "test.csv", "youtube_id,time_start,time_end,split", ["ddd", 1, 11, "test"])
    write_clip(raw / "train" / "zumba" / "-a_B_000010_000020.mp4", 5)
    write_clip(raw / "train" / "bbb_000000_000010.mp4", 6)
    write_clip(raw / "val" / "ccc_123456_123466.mp4", 7)
    return raw


def make_ucf101(raw: Path) -> Path:
    lists_folder = raw / "ucfTrainTestlist"
    write_lines(lists_folder / "classInd.txt", "1 ApplyEyeMakeup", "2 Archery")
    write_lines(
        lists_folder / "trainlist01.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1",
        "Archery/v_Archery_g08_c01.avi 2",
    )
    write_lines(lists_folder / "testlist01.txt", "Archery/v_Archery_g01_c01.avi")
    for name, count in (
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", 4),
        ("Archery/v_Archery_g08_c01", 5),
        ("Archery/v_Archery_g01_c01", 6),
    ):
        write_clip(raw / "UCF-101" / f"{name}.avi", count)
    return raw
