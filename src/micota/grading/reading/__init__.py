"""Text of an answer -> a tree of nodes."""
