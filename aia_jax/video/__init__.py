"""Reads a video file or a folder of frames as pictures: shared by preparing and predicting."""
