"""Merge the TA before and after SFT (``python merge.py merge.weight=0.5``), or measure merges (``probe=true``)."""

from micota import doors, graph
from micota.config import MergeDoorConfig
from micota.stages.make import make


def main(config: MergeDoorConfig) -> None:
    make(config, "merge", [graph.probe(config) if config.probe else graph.merged(config)])


if __name__ == "__main__":
    doors.run(__file__, main)
