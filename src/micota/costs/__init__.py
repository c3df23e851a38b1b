"""The costs of an experiment before it runs: tokens, FLOPs, hours, memory and disk of each stage. Imports no torch."""
