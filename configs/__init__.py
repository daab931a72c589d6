"""Recipes: one file each, all starting from base.py."""
