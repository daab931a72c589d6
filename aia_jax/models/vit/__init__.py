"""ViT over the frames of a clip, TokShift and MSCA: the network, and its names in checkpoints."""
