"""The 3x3x3 convolution on a pooled pair."""
