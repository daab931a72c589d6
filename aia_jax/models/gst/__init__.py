"""GST: Luo & Yuille, "Grouped Spatial-Temporal Aggregation for Efficient Action Recognition"."""
