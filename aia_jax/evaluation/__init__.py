"""Tests a model on a prepared split, and shows what its scores say."""
