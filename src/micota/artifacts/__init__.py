"""Artifacts on disk: folders that are complete or not there at all, their manifests, and the rows they hold."""
