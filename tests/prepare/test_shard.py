"""Which videos go into which shard."""

from pathlib import Path

from aia_jax.prepare.raw_dataset import RawVideo
from aia_jax.prepare.shard import assign_to_shards


def test_shards_mix_the_classes_and_are_even():
    videos = [
        RawVideo(f"{name}/{number}.mp4", Path(name), {"label": label}, "train")
        for label, name in enumerate("abcd")
        for number in range(60)
    ]
    assert [len(shard) for shard in assign_to_shards(videos, 50)] == [48] * 5
    assert [len(shard) for shard in assign_to_shards(videos)] == [16] * 15
    assert [len(shard) for shard in assign_to_shards(videos[:7])] == [7]
    assert max(len(shard) for shard in assign_to_shards(videos * 50)) <= 256
    shards = assign_to_shards(videos, 50)
    assert sorted(video.video_id for shard in shards for video in shard) == sorted(
        video.video_id for video in videos
    )
    assert all({video.labels["label"] for video in shard} == {0, 1, 2, 3} for shard in shards)
    assert shards == assign_to_shards(videos[::-1], 50)
