"""Metadata that TFDS reads, what a data set says of itself, and folders that are no data sets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from aia_jax.errors import DataError
from aia_jax.shards.dataset_info import check_against_config, open_dataset
from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.reader import open_split
from aia_jax.shards.tfds_metadata import shard_name, write_metadata
from aia_jax.shards.tfrecord import RecordWriter, scan_records
from tests.helpers.tiny_data import make_dataset

CLASSES = ("moving left", "moving right", "standing")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(
        tmp_path_factory.mktemp("data") / "set",
        videos_per_class={"train": 4, "validation": 1},
        classes=CLASSES,
    )


# --- TFDS ---


def test_tfds_opens_the_folder(dataset):
    builder = tfds.builder_from_directory(dataset)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 12,
        "validation": 3,
    }
    assert builder.info.splits["train"].shard_lengths == [6, 6]
    assert [
        Path(path).is_file() for split in builder.info.splits.values() for path in split.filepaths
    ] == [True] * 4
    assert builder.info.splits["train"].num_bytes == sum(
        path.stat().st_size for path in dataset.glob("*-train.tfrecord*")
    )
    assert builder.info.features["label"].names == list(CLASSES)
    assert builder.info.features["frames"].feature.encoding_format == "jpeg"


def test_tfds_decodes_the_records(dataset):
    features = tfds.builder_from_directory(dataset).info.features
    reader = open_split(dataset, "train")
    for record in (0, 7):
        video = features.deserialize_example_np(reader.read_record(record))
        pictures = [
            simplejpeg.decode_jpeg(picture, "RGB")
            for picture in reader.read_frames(record, range(10))
        ]
        np.testing.assert_array_equal(video.pop("frames"), pictures)
        assert video == {
            "label": record % 3,
            "video_id": f"train_{record}".encode(),
            "num_frames": 10,
            "fps": 12.0,
            "height": 24,
            "width": 32,
        }


def test_records_that_tfds_serialized_are_read(tmp_path):
    folder = make_dataset(tmp_path, videos_per_class=1, shards=1)
    pictures = open_split(folder, "train").read_frames(2, range(10))
    serializer = ExampleSerializer(
        tfds.builder_from_directory(folder).info.features.get_serialized_info()
    )
    with RecordWriter(folder / "tiny-train.tfrecord-00000-of-00001") as writer:
        for label in range(3):
            video = {
                "label": label,
                "video_id": f"by tfds {label}",
                "num_frames": 10,
                "fps": 30.0,
                "height": 24,
                "width": 32,
            }
            writer.write(
                serializer.serialize_example({"frames": np.array(pictures, object), **video})
            )
    reader = open_split(folder, "train")
    assert reader.read_frames(1, [9, 0]) == [pictures[9], pictures[0]]
    index = reader.index
    assert list(index.labels) == ["label"]
    assert index.labels["label"].tolist() == [0, 1, 2]
    assert index.video_id(2) == "by tfds 2"
    assert index.fps.tolist() == [30.0] * 3


def test_several_labels(tmp_path):
    with RecordWriter(tmp_path / shard_name("two", "train", 0, 1)) as writer:
        writer.write(encode_example([b"x"], {"verb": 1, "noun": 0}, "v", 1.0, 2, 2))
    names = {"verb": ["take", "put"], "noun": ["cup"]}
    write_metadata(tmp_path, name="two", class_names=names, shard_lengths={"train": [1]})
    assert open_dataset(tmp_path, "verb").class_names == ("take", "put")
    assert open_dataset(tmp_path, "noun").class_names == ("cup",)
    with pytest.raises(
        DataError, match="has no class label 'label'; its class labels are: noun, verb"
    ):
        open_dataset(tmp_path)
    assert open_split(tmp_path, "train").index.labels["verb"].tolist() == [1]


def test_sets_of_labels(tmp_path):
    folder = make_dataset(
        tmp_path, classes=("a", "b", "c"), videos_per_class=1, label_sets=[(2, 0), (1,)]
    )
    info, reader = open_dataset(folder), open_split(folder, "train")
    assert (info.class_names, info.multilabel) == (("a", "b", "c"), True)
    assert reader.index.multi_hot("label", [0, 1], 3).tolist() == [[1, 0, 1], [0, 1, 0]]
    features = tfds.builder_from_directory(folder).info.features
    found = [features.deserialize_example_np(reader.read_record(k))["label"] for k in (0, 1)]
    assert [list(map(int, one)) for one in found] == [[2, 0], [1]]
    assert check_against_config(info, 3, {"train": reader.index}) == 3
    with pytest.raises(DataError, match=r"record 0, video train_0 has label 2, valid are 0 to 1"):
        check_against_config(replace(info, class_names=("a", "b")), 2, {"train": reader.index})
    with pytest.raises(DataError, match=r"video train_0 has several values of label, by the meta"):
        check_against_config(replace(info, multilabel=False), 3, {"train": reader.index})


def test_class_names_keep_their_letters(tmp_path):
    names = ["Übung: [something], “left”", "a  b", "日本"]
    assert open_dataset(
        make_dataset(tmp_path, videos_per_class=1, classes=names)
    ).class_names == tuple(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", ""], "class 1 is named ''"),
        ([" a"], "class 0 is named ' a'"),
        (["a\nb"], r"class 0 is named 'a\\nb'"),
        (["a", "b", "a"], "two classes are named 'a'"),
    ],
)
def test_class_names_that_the_metadata_cannot_hold(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        write_metadata(tmp_path, name="set", class_names={"label": names}, shard_lengths={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "my-set", "a set", "9gag", "../up"])
def test_a_name_that_file_names_cannot_hold(tmp_path, name):
    with pytest.raises(DataError, match="cannot be named"):
        write_metadata(tmp_path, name=name, class_names={"label": ["a"]}, shard_lengths={})


def test_metadata_without_its_shards_is_not_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_metadata(
            tmp_path, name="set", class_names={"label": ["a"]}, shard_lengths={"train": [1]}
        )
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".metadata.tmp").mkdir()
    (tmp_path / ".metadata.tmp" / "other-train.tfrecord-00000-of-00001").touch()
    folder = make_dataset(tmp_path, videos_per_class=1)
    assert not (folder / ".metadata.tmp").exists()
    assert open_dataset(folder).name == "tiny"


# --- opening ---


def test_what_a_data_set_says(dataset):
    info = open_dataset(dataset)
    assert [info.name, info.class_names, info.splits, info.dir, info.label_feature] == [
        "tiny", CLASSES, {"train": 12, "validation": 3}, dataset, "label",
    ]  # fmt: skip
    assert {split: len(open_split(dataset, split)) for split in info.splits} == info.splits


def test_a_missing_folder(tmp_path):
    command = (
        r"python prepare_data.py DATA_SET --raw \S+ --out .*/nothing "
        r"\(DATA_SET is folders for own videos; .*\)$"
    )
    with pytest.raises(DataError, match=rf"data folder .*/nothing does not exist; .* {command}"):
        open_dataset(tmp_path / "nothing")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a folder"):
        open_split(tmp_path / "file", "train")


def test_an_empty_folder(tmp_path):
    with pytest.raises(
        DataError,
        match=r"looked for dataset_info.json and features.json, it is empty; make one: python "
        r"prepare_data.py",
    ):
        open_dataset(tmp_path)


def test_a_folder_of_something_else(tmp_path):
    for number in range(8):
        (tmp_path / f"class {number}").mkdir()
    with pytest.raises(
        DataError,
        match=r"it has class 0, class 1, class 2, class 3, class 4 and 3 more; make one: python "
        r"prepare_data.py",
    ) as error:
        open_split(tmp_path, "train")
    assert "\n" not in str(error.value)


def test_the_folder_above_the_data_set(dataset):
    with pytest.raises(DataError, match=f"did you mean {dataset}\\?"):
        open_dataset(dataset.parent)


def test_an_unfinished_preparation(tmp_path):
    (tmp_path / ".prepare").touch()
    with pytest.raises(DataError, match="its preparation has not ended: run the same"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 3}'])
def test_damaged_metadata(tmp_path, name, content):
    folder = make_dataset(tmp_path, videos_per_class=1)
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=r"cannot be read|has no") as error:
        open_dataset(folder)
        open_split(folder, "train")
    assert "\n" not in str(error.value)


# --- against the config ---


def opened(folder):
    return open_dataset(folder), {
        split: open_split(folder, split).index for split in ("train", "validation")
    }


def test_a_data_set_that_fits_the_config(dataset):
    info, indices = opened(dataset)
    assert check_against_config(info, 3, indices) == 3
    assert check_against_config(info, 0, indices) == 3  # as many as there are


def test_another_class_count(dataset):
    info, indices = opened(dataset)
    with pytest.raises(
        DataError,
        match=r"has 3 classes, the config says data.num_classes=174; set "
        r"--config.data.num_classes=3 or",
    ):
        check_against_config(info, 174, indices)


@pytest.mark.parametrize("label", [3, -1, 1 << 40])
def test_a_label_out_of_range(tmp_path, label):
    folder = make_dataset(tmp_path)
    path = folder / "tiny-validation.tfrecord-00001-of-00002"
    records = [record.data for record in scan_records(path)]
    records[2] = encode_example([b"x"], {"label": label}, "the wrong one", 12.0, 24, 32)
    with RecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    expected = (
        rf"split validation: shard {path.name}, record 2, video the wrong one has label {label}, "
        r"valid are 0 to 2 \(1 such records\)"
    )
    info, indices = opened(folder)
    with pytest.raises(DataError, match=expected):
        check_against_config(info, 3, indices)


def test_a_label_that_is_absent(tmp_path):
    folder = make_dataset(tmp_path, videos_per_class=1, shards=1)
    with RecordWriter(folder / "tiny-train.tfrecord-00000-of-00001") as writer:
        for number in range(3):
            writer.write(encode_example([b"x"], {"other": 1}, f"video {number}", 12.0, 24, 32))
    info, indices = opened(folder)
    with pytest.raises(
        DataError,
        match=r"record 0, video video 0 has label -1, valid are 0 to 2 \(3 such records\)",
    ):
        check_against_config(info, 3, indices)


def test_damaged_records_have_no_label_to_check(tmp_path):
    folder = make_dataset(tmp_path)
    path = folder / "tiny-train.tfrecord-00000-of-00002"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    info, indices = opened(folder)
    assert indices["train"].damaged.sum() == 1
    check_against_config(info, 3, indices)


def test_an_empty_split_is_named(dataset):
    info, indices = opened(dataset)
    with pytest.raises(DataError, match=r"split validation, holds no videos; .* data\.val_split"):
        check_against_config(info, 3, indices | {"validation": Index.build([])})


def test_a_video_without_a_label_where_videos_may_have_several(tmp_path):
    folder = make_dataset(
        tmp_path, classes=("a", "b", "c"), videos_per_class=1, label_sets=[(2, 0), (), (1,)]
    )
    info, indices = opened(folder)
    with pytest.raises(DataError, match=r"has no label .*needs one at least.*delete \w+\.index"):
        check_against_config(info, 3, indices)
