"""Recipes: one file a data set, whose argument names the network; base.py has every field."""
