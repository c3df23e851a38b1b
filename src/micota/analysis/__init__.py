"""Measurements on stored artifacts."""
