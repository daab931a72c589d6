"""ResNets over the frames of a clip."""
