"""What a preparation writes, and that killed, stopped and repeated runs write the same bytes."""

import json
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aia_jax.errors import UserError, exit_status
from aia_jax.prepare.command import main
from aia_jax.shards.dataset_info import open_dataset
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.reader import open_split
from aia_jax.video.decode import decode
from aia_jax.video.frame_size import FrameSize
from tests.helpers.prepare_command import arguments, read_files, start_command, wait_for
from tests.helpers.raw_videos import decoded, numbered_frames, write_video


def test_what_is_written_is_what_the_videos_show(raw, done):
    info = open_dataset(done)
    assert (info.name, info.class_names) == (
        "tiny_set",
        ("moving left", "moving right", "standing"),
    )
    assert info.splits == {"train": 17, "validation": 9}
    assert (done / "tiny_set-train.tfrecord-00000-of-00010").is_file()
    for split, folder in (("train", "train"), ("validation", "val")):
        reader = open_split(done, split)
        ids = [reader.index.video_id(record) for record in range(len(reader))]
        assert len(set(ids)) == len(ids) == info.splits[split]
        for record, video_id in enumerate(ids):
            video = decode(raw / folder / video_id, FrameSize(height=24, width=32), 90)
            assert reader.read_frames(record, range(len(video.frames))) == video.frames
            assert reader.index.labels["label"][record] == info.class_names.index(
                video_id.split("/")[0]
            )
            expected = encode_example(
                video.frames,
                {"label": int(reader.index.labels["label"][record])},
                video_id,
                video.fps,
                24,
                32,
            )
            assert reader.read_record(record) == expected
    left = ids.index("moving left/3.avi")
    levels = decoded(reader.read_frames(left, range(13))).mean((1, 2, 3))
    assert (np.diff(levels) > 0).all()


def test_the_index_is_that_of_a_scan(done):
    for split in ("train", "validation"):
        shards = sorted(done.glob(f"tiny_set-{split}.tfrecord-*"))
        built, written = Index.build(shards), Index.load(done / f"{split}.index")
        assert written.find_mismatch(shards) == ""
        assert written.shards == built.shards
        for column in (
            "record_offset",
            "frame_offset",
            "frame_length",
            "frame_crc",
            "fps",
            "height",
            "width",
            "video_id_bytes",
        ):
            np.testing.assert_array_equal(getattr(written, column), getattr(built, column))


def test_tfds_opens_it(done):
    builder = tfds.builder_from_directory(done)
    assert builder.info.features["label"].names == ["moving left", "moving right", "standing"]
    assert {split: builder.info.splits[split].num_examples for split in builder.info.splits} == {
        "train": 17,
        "validation": 9,
    }
    reader = open_split(done, "train")
    example = builder.info.features.deserialize_example_np(reader.read_record(0))
    assert len(example["frames"]) == example["num_frames"] == reader.index.num_frames[0]
    assert example["frames"][0].shape == (24, 32, 3)


def test_bad_videos_are_listed_and_the_manifest_tells_the_truth(raw, done):
    lines = dict(line.split("\t") for line in (done / "bad.txt").read_text().splitlines())
    assert lines == {
        str(raw / "train/standing/broken.mp4"): "Invalid data found when processing input",
        str(raw / "train/standing/nothing.webm"): "the file is empty",
        str(raw / "val/standing/no frame.avi"): "no frame in this file",
    }
    manifest = json.loads((done / "manifest.json").read_text())
    train = manifest["splits"]["train"]
    assert (train["expected"], train["found"], train["bad"]) == (19, 17, 2)
    assert [shard["videos"] for shard in train["shards"]] == tfds.builder_from_directory(
        done
    ).info.splits["train"].shard_lengths
    assert train["videos_per_class"] == {
        "label": {"moving left": 8, "moving right": 8, "standing": 1}
    }
    assert train["frames"] == 2 * sum(range(10, 18)) + 8
    assert (train["frames_per_video"]["min"], train["frames_per_video"]["max"]) == (8, 17)
    assert train["fps"] == {"10": 8, "25": 8, "unknown": 1}
    assert train["sources"] == {"h264": 8, "vp8": 8, "img_%05d.jpg from 1": 1}
    assert train["missing_frame_numbers"] == {"standing/as frames": "4"}
    assert manifest["options"]["--size"] == "24x32"
    assert manifest["command"].startswith(f"python prepare_data.py folders --raw {raw}")
    assert str(done) not in (done / "manifest.json").read_text()


def test_killed_anywhere_and_run_again_gives_the_same_bytes(raw, done, tmp_path):
    out = tmp_path / "out"
    shards = sorted(path.name for path in done.glob("*.tfrecord-*"))
    moments = {
        "a shard half-written": lambda: any(out.glob("*.tfrecord-*.tmp")),
        "some shards": lambda: (
            sum((out / ".prepare" / f"{name}.json").is_file() for name in shards) >= 6
        ),
        "all but the metadata": lambda: (out / "manifest.json").is_file(),
    }
    inodes = {}
    for moment, happened in moments.items():
        process = start_command(raw, out, "--workers", "2")
        wait_for(process, happened)
        process.kill()  # its workers end by themselves then
        assert process.wait() == -signal.SIGKILL
        assert not (out / "dataset_info.json").exists(), moment
        finished = {
            path.name.removesuffix(".json"): path
            for path in (out / ".prepare").glob("*.tfrecord-*.json")
        }
        for name in finished:
            inodes.setdefault(name, (out / name).stat().st_ino)
    assert main(arguments(raw, out)) == 1
    assert read_files(out) == read_files(done)
    assert all((out / name).stat().st_ino == inode for name, inode in inodes.items()), (
        "a finished shard was written again"
    )
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert exit_status(lambda: main(arguments(raw, out))) == 1
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}, (
        "a finished data set is left alone"
    )


@pytest.mark.parametrize("finished", [True, False])
def test_left_overs_of_the_last_moments_are_cleared(raw, done, tmp_path, finished):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    for folder in (".metadata.tmp", ".prepare"):
        (out / folder).mkdir()
        (out / folder / "tiny_set-train.tfrecord-00000-of-00010").touch()
    (out / "train.index.host.1.tmp").touch()
    if not finished:
        (out / "dataset_info.json").unlink()
    assert main(arguments(raw, out)) == 1
    assert read_files(out) == read_files(done)


def test_sigterm_stops_and_the_next_run_goes_on(raw, done, tmp_path):
    """Even where a finished shard was damaged in between."""
    out = tmp_path / "out"
    process = start_command(raw, out, stderr=subprocess.PIPE, text=True)
    wait_for(process, lambda: any((out / ".prepare").glob("*.tfrecord-*.json")))
    process.terminate()
    message = process.communicate()[1]
    assert process.returncode == 75, message
    assert (
        message
        == "stopped: by SIGTERM; the finished shards are kept: run the same command again to go "
        "on\n"
    )
    shard = out / next((out / ".prepare").glob("*.tfrecord-*.json")).name.removesuffix(".json")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert exit_status(lambda: main(arguments(raw, out))) == 1
    assert read_files(out) == read_files(done)


def test_a_full_disk_is_said_and_survived(raw, done, tmp_path):
    out = tmp_path / "out"
    small = (10_000, 10_000)
    process = start_command(
        raw,
        out,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, small),
    )
    message = process.communicate()[1]
    assert process.returncode == 1
    assert "File too large" in message
    assert message.strip().endswith("run the same command again to go on once that is repaired")
    assert "Traceback" not in message
    assert exit_status(lambda: main(arguments(raw, out))) == 1
    assert read_files(out) == read_files(done)


def test_a_missing_shard_of_a_finished_data_set_is_written_again(raw, done, tmp_path):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    (out / "tiny_set-train.tfrecord-00003-of-00010").unlink()
    assert main(arguments(raw, out)) == 1
    assert read_files(out) == read_files(done)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "48x64"], "--size was 24x32, now 48x64"),
        (["--quality", "80"], "--quality was 90, now 80"),
        (["--splits", "train"], "--splits was None, now ['train']"),
        (["--name", "other"], "--name was tiny_set, now other"),
    ],
)
def test_other_options_on_the_same_folder_are_refused(raw, done, options, said):
    with pytest.raises(UserError, match="holds the work of another command") as caught:
        main(arguments(raw, done, *options))
    assert said in str(caught.value)
    assert "another --out" in str(caught.value)


def test_other_raw_videos_on_the_same_folder_are_refused(raw, done, tmp_path):
    other = Path(shutil.copytree(raw, tmp_path / "tiny-set"))
    assert main(arguments(other, done)) == 1, "the same videos in another place are the same"
    (other / "train" / "standing" / "nothing.webm").write_bytes(b"now there is something")
    with pytest.raises(
        UserError,
        match="19 train, 10 validation, now the same numbers with other names, classes or sizes",
    ):
        main(arguments(other, done))
    (other / "train" / "standing" / "nothing.webm").unlink()
    with pytest.raises(UserError, match="19 train, 10 validation, now 18 train, 10 validation"):
        main(arguments(other, done))


def test_a_split_without_a_readable_video(tmp_path, capsys):
    write_video(tmp_path / "raw" / "train" / "a" / "1.mp4", numbered_frames(3, 24, 32))
    (tmp_path / "raw" / "val" / "a").mkdir(parents=True)
    (tmp_path / "raw" / "val" / "a" / "1.mp4").touch()
    assert main(arguments(tmp_path / "raw", tmp_path / "out")) == 1
    assert "no video of the split validation could be read" in capsys.readouterr().err
    assert (tmp_path / "out" / "bad.txt").read_text().endswith("\tthe file is empty\n")
    assert not (tmp_path / "out" / "dataset_info.json").exists()
