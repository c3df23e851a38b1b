"""Merge the TA before and after fine-tuning: ``python merge.py merge.weight=0.5``."""

from micota import doors, graph
from micota.config import Config
from micota.stages.make import make


def main(config: Config) -> None:
    make(config, "merge", [graph.merged(config)])


if __name__ == "__main__":
    doors.run(__file__, main)
