"""Which part of a completion is its final answer."""
