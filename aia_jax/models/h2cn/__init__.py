"""H2CN: Tan et al., "Hierarchical Hourglass Convolutional Network", ACM Multimedia 2022."""
