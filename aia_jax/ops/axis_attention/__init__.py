"""Attention over pooled axes."""
