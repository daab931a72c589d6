"""The format on disk, written and read: TFRecord shards of JPEG frames, their index, and TFDS
metadata.
"""
