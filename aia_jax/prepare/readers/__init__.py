"""One file a data set: how its videos and labels lie in the raw download."""
