"""A video file or a folder of frames, to pictures: what preparing and predicting have in common."""
