"""The commands: each composes a config, asks for nodes of the graph, and prints what came of them."""
