"""Merging: models and a recipe -> a model that is right, reproducible and checked; and merges measured in memory."""
