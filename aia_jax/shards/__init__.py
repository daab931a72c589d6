"""The format on disk: TFRecord shards of JPEG frames, their index, and TFDS metadata."""
