"""C3D: the 3-D ResNet that papers on GST and AIA compare with."""
