"""Artifacts on disk: folders that are complete or absent, their manifests, and their rows."""
