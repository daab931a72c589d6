"""Classifies videos that were never prepared: whole files, and windows that slide over them."""
