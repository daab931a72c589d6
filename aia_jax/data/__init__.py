"""From prepared TFRecord shards to batches on the mesh."""
