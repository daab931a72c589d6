"""Checkpoints: written and restored by a run, read by everything that works on a trained run."""
