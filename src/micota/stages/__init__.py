"""Stages compose the rooms: each turns a node of the graph into an artifact."""
