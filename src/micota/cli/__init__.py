"""The commands: each composes a config, makes nodes of the graph, and prints the results."""
