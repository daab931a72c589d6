"""Writes raw videos as TFRecord shards: one reader a data set, everything else shared."""
