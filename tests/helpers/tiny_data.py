"""Makes small prepared data sets of random frames, for tests of what reads data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from aia_jax.shards.example import encode_example
from aia_jax.shards.index import Index
from aia_jax.shards.index_builder import ShardIndexBuilder
from aia_jax.shards.tfds_metadata import shard_name, write_metadata
from aia_jax.shards.tfrecord import RecordWriter


def jpeg_frames(rng: np.random.Generator, frames: int, size: tuple[int, int]) -> list[bytes]:
    """Random JPEG pictures of `size` (H, W), no two alike."""
    return [
        simplejpeg.encode_jpeg(rng.integers(0, 256, (*size, 3), np.uint8), quality=75)
        for _ in range(frames)
    ]


def make_dataset(
    folder: str | Path,
    videos_per_class: int | Mapping[str, int] = 3,
    classes: Sequence[str] = ("moving left", "moving right", "standing"),
    splits: Sequence[str] = ("train", "validation"),
    frames: int | Sequence[int] = 10,
    size: tuple[int, int] = (24, 32),
    shards: int = 2,
    name: str = "tiny",
    seed: int = 0,
    index: bool = True,
    label_sets: Sequence[Sequence[int]] = (),
) -> Path:
    """Writes a prepared data set of random frames.

    Args:
        folder: made if absent.
        videos_per_class: in each split, or by split name.
        classes: the class names; labels cycle through them record by record.
        splits: the split names.
        frames: of every video, or a sequence of counts that the videos cycle through.
        size: (H, W) of the frames.
        shards: of each split.
        name: of the data set.
        seed: of the pictures.
        index: whether to write the index files too.
        label_sets: the labels of a video, which videos cycle through instead; (): one label each.

    Returns:
        The folder. Videos are called `<split>_<n>`, n counting from 0 in the order of the records.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    counts = [frames] if isinstance(frames, int) else list(frames)
    lengths = {}
    for split in splits:
        total = len(classes) * (
            videos_per_class if isinstance(videos_per_class, int) else videos_per_class[split]
        )
        paths, shard_indices, lengths[split] = [], [], []
        for number, part in enumerate(np.array_split(np.arange(total), shards)):
            paths.append(folder / shard_name(name, split, number, shards))
            shard_indices.append(ShardIndexBuilder())
            lengths[split].append(len(part))
            with RecordWriter(paths[-1]) as writer:
                for video in part.tolist():
                    pictures = jpeg_frames(rng, counts[video % len(counts)], size)
                    label = label_sets[video % len(label_sets)] if label_sets else None
                    labels = {"label": video % len(classes) if label is None else label}
                    record = encode_example(pictures, labels, f"{split}_{video}", 12.0, *size)
                    shard_indices[-1].add(record, writer.write(record))
        if index:
            Index.join(paths, shard_indices).save(folder / f"{split}.index")
    write_metadata(
        folder,
        name=name,
        class_names={"label": classes},
        shard_lengths=lengths,
        label_sets=("label",) if label_sets else (),
    )
    return folder
