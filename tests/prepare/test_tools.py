"""`prepare_data.py verify` finds every kind of damage; `show` writes a page of the data set."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from aia_jax.errors import exit_status
from aia_jax.prepare.command import main
from aia_jax.prepare.show import write_page
from aia_jax.prepare.verify import Damage, verify
from aia_jax.shards.example import encode_example
from aia_jax.shards.tfrecord import RecordWriter, scan_records
from tests.helpers.prepare_command import arguments
from tests.helpers.raw_videos import numbered_frames, write_video
from tests.helpers.tiny_data import jpeg_frames, make_dataset

NAMES = ("moving left", "moving right", "standing <upright>", "turning left")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes and one video that cannot be read, as the real command writes them."""
    folder = tmp_path_factory.mktemp("tools")
    for number in range(24):
        name = NAMES[number % 4]
        write_video(
            folder / "raw" / name / f"{number}.mp4",
            numbered_frames(8 + number, 30, 40),
            fps=(12, 30)[number % 2],
        )
    (folder / "raw" / NAMES[0] / "broken.mp4").write_bytes(b"nothing")
    words = arguments(folder / "raw", folder / "out", "--videos-per-shard", "5", "--workers", "2")
    assert main(words) == 1
    return folder / "out"


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def shard(folder: Path, number: int = 0) -> Path:
    return sorted(folder.glob("*-train.tfrecord-*"))[number]


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changes the first record of a shard and writes it again, with the right checksums."""
    records = [record.data for record in scan_records(path)]
    with RecordWriter(path) as writer:
        for record in [change(records[0]), *records[1:]]:
            writer.write(record)


def reasons(found: tuple[Damage, ...], where: str) -> str:
    return "; ".join(one.reason for one in found if where in one.where)


def test_all_is_well(prepared, capsys):
    before = {path: path.read_bytes() for path in prepared.iterdir()}
    assert main(["verify", str(prepared), "--workers", "2"]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(r"read 24 videos, 468 frames, \d\.\d MB: all is well\n", said)
    assert before == {path: path.read_bytes() for path in prepared.iterdir()}, "nothing is changed"


def test_a_folder_that_tfds_wrote_has_no_manifest(tmp_path):
    found = verify(make_dataset(tmp_path / "a"), 1)
    assert (found.videos, found.frames, found.damage) == (18, 180, ())


def test_a_flipped_byte(copy, capsys):
    path = shard(copy)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert main(["verify", str(copy), "--workers", "1"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert re.match(
        rf"shard {path.name}, record \d, video .*/\d+.mp4: its data does not match the checksum "
        r"stored with it",
        said[0],
    )
    assert said[-1].endswith("things are wrong")


def test_a_flipped_length_and_a_cut_shard(copy):
    first, second = shard(copy, 0), shard(copy, 1)
    content = bytearray(first.read_bytes())
    content[0] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:-10])
    found = verify(copy, 1).damage
    assert "has a length that does not match its checksum" in reasons(found, first.name)
    assert "is cut short" in reasons(found, second.name)
    assert "manifest.json says" in reasons(found, second.name)


def test_garbage_pictures_under_the_right_checksum(copy):
    def garbage(record: bytes) -> bytes:
        start = record.index(b"\xff\xd8\xff") + 300
        return record[:start] + bytes(range(50, 150)) + record[start + 100 :]

    rewrite(shard(copy), garbage)
    found = verify(copy, 1).damage
    assert "is no intact JPEG" in reasons(found, "record 0, video")
    assert "the index says otherwise (frame_crc)" in reasons(found, shard(copy).name)


def test_a_cut_picture_and_wrong_numbers(copy):
    frames = [simplejpeg.encode_jpeg(np.zeros((24, 32, 3), np.uint8)) for _ in range(3)]
    frames[1] = frames[1][:-40]
    frames[2] = jpeg_frames(np.random.default_rng(0), 1, (16, 16))[0]
    rewrite(
        shard(copy), lambda record: encode_example(frames, {"label": 4}, "a/wrong", 12.0, 24, 32)
    )
    said = reasons(verify(copy, 1).damage, "record 0, video a/wrong")
    assert "label is 4, valid are 0 to 3" in said
    assert "frame 1 is no intact JPEG" in said
    assert "frame 2 is 16x16 pixels, the record says 24x32" in said
    assert "frame 0" not in said


def test_a_record_that_is_no_video(copy):
    rewrite(shard(copy), lambda record: b"not an example")
    assert "not a record of a video" in reasons(verify(copy, 1).damage, "record 0, video")


def test_files_that_are_missing_or_of_another_preparation(copy):
    shard(copy).unlink()
    records = [record.data for record in scan_records(shard(copy))]
    with RecordWriter(shard(copy)) as writer:
        for record in records[:-1]:
            writer.write(record)
    (copy / "validation.index").write_bytes(b"nonsense")
    (copy / "bad.txt").write_text("")
    gone = next(name for name in shard_names(copy) if not (copy / name).exists())
    found = verify(copy, 1).damage
    assert "the file is missing; it held" in reasons(found, gone)
    assert f"it holds {len(records) - 1} records, dataset_info.json says {len(records)}" in reasons(
        found, shard(copy).name
    )
    assert "does not match its checksum" in reasons(found, "validation.index")
    assert (
        reasons(found, "bad.txt") == "it lists 0 videos, by manifest.json 1 could not be prepared"
    )
    (copy / "train.index").unlink()
    assert "the file is missing" in reasons(verify(copy, 1).damage, "train.index")


def shard_names(folder: Path) -> list[str]:
    return [
        one["file"]
        for one in json.loads((folder / "manifest.json").read_text())["splits"]["train"]["shards"]
    ]


def test_a_manifest_of_other_data(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["class_names"]["label"].reverse()
    manifest["splits"]["train"]["found"] += 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    said = reasons(verify(copy, 1).damage, "manifest.json")
    assert "its class names are not those of the metadata" in said
    assert (
        "it counts the videos 21 train, 4 validation, dataset_info.json 20 train, 4 validation"
        in said
    )
    (copy / "manifest.json").write_text("{")
    assert "it cannot be read" in reasons(verify(copy, 1).damage, "manifest.json")


@pytest.mark.parametrize("tool", ["verify", "show"])
def test_not_a_prepared_data_set(tmp_path, capsys, tool):
    more = ["--out", str(tmp_path / "page.html")] * (tool == "show")
    for folder, said in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "is not a prepared data set"),
    ):
        assert exit_status(lambda at=folder: main([tool, str(at), *more])) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


class Page(HTMLParser):
    """Collects the pictures, the text, and every address that a page names."""

    def __init__(self, text: str):
        super().__init__()
        self.pictures, self.text, self.tags, self.open = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        attrs = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            kind, _, data = attrs["src"].partition(",")
            assert kind == "data:image/jpeg;base64"
            self.pictures.append(simplejpeg.decode_jpeg(base64.b64decode(data), strict=True))
        assert not {"href", "srcset"} & attrs.keys()

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "every element is closed"

    def handle_data(self, data):
        self.text.append(data)


def test_the_page(prepared, tmp_path, capsys):
    assert main(["show", str(prepared), "--out", str(tmp_path / "page.html"), "--clips", "3"]) == 0
    assert f"wrote {tmp_path / 'page.html'}" in capsys.readouterr().out
    source = (tmp_path / "page.html").read_text()
    assert "://" not in source and "url(" not in source and "@import" not in source
    page = Page(source)
    assert page.open == [] and not page.tags & {"script", "link", "iframe", "object"}
    text = " ".join(" ".join(page.text).split())
    for split, videos in (("train", "20"), ("validation", "4")):
        assert f"Split {split}" in text
        assert f"3 of {videos} clips, by chance (seed 0)" in text
    assert {name for name in NAMES if name in text} == set(NAMES)
    assert "0 moving left ↔ 1 moving right" in text
    assert "never mirrored, for want of a partner: turning left" in text
    assert "broken.mp4" in text and "Not prepared (bad.txt): 1" in text
    assert "Videos of each class: 5 to 5" in text
    assert "Frames of a video: median" in text and "Frames a second" in text
    strips = [picture for picture in page.pictures if picture.shape[1] > 1000]
    pairs = [picture for picture in page.pictures if picture.shape[1] < 1000]
    assert len(strips) == 6 and len(pairs) == 6
    for clip, mirror in zip(pairs[::2], pairs[1::2], strict=True):
        width = (clip.shape[1] + 4) // 4 - 4
        for frame in range(4):  # the frames keep their order, and each is mirrored
            columns = slice(frame * (width + 4), frame * (width + 4) + width)
            difference = clip[:, columns].astype(int) - mirror[:, columns][:, ::-1]
            assert np.abs(difference).mean() < 4
    captions = re.findall(
        r"<b>([^<]*)</b><span class=\"label\">label (\d)</span><span class=\"soft\">mirrored",
        source,
    )
    assert captions[:2] == [("moving right", "1"), ("moving left", "0")]


def test_the_same_seed_shows_the_same_clips(prepared, tmp_path):
    pages = []
    for number, seed in enumerate((0, 0, 1)):
        write_page(prepared, tmp_path / f"{number}.html", 3, seed)
        pages.append((tmp_path / f"{number}.html").read_text())
    assert pages[0] == pages[1] != pages[2]


def test_a_damaged_clip_is_on_the_page(copy, tmp_path):
    path = shard(copy)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    (copy / "train.index").unlink()
    write_page(copy, tmp_path / "page.html", 30, 0)
    assert f"shard {path.name}, record" in (tmp_path / "page.html").read_text()


def test_one_long_video_and_an_empty_class(tmp_path):
    frames = [3] * 120 + [400]
    make_dataset(
        tmp_path / "out",
        {"train": 121},
        classes=("a",),
        splits=("train",),
        frames=frames,
        size=(16, 16),
        shards=1,
    )
    write_page(tmp_path / "out", tmp_path / "page.html", 2, 0)
    text = (tmp_path / "page.html").read_text()
    assert "median 3, 3 to 400" in text and "to 400" in text


def test_wrong_options(prepared, tmp_path, capsys):
    for more, said in (
        (["--out", str(tmp_path)], "is a folder; name a file"),
        (["--out", str(tmp_path / "none" / "page.html")], "does not exist; make it first"),
        (["--out", str(tmp_path / "page.html"), "--clips", "0"], "--clips is a count"),
        (["--out", str(tmp_path / "page.html"), "--label", "verb"], "has no class label 'verb'"),
    ):
        assert exit_status(lambda words=more: main(["show", str(prepared), *words])) == 2
        assert said in capsys.readouterr().err
    assert exit_status(lambda: main(["verify", str(prepared), "--workers", "0"])) == 2
