"""Stages turn nodes of the graph into artifacts, with the functions of the other packages."""
