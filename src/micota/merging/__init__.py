"""Merging: models and a recipe -> a reproducible, checked model; and merge sweeps in memory."""
