"""From raw videos to TFRecord shards: one reader a data set, everything else shared."""
