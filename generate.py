"""Make the training data of one arm: ``python generate.py data=strong``."""

from micota import doors, graph
from micota.config import Config
from micota.stages.make import make


def main(config: Config) -> None:
    make(config, "generate", [graph.data(config, config.data)])


if __name__ == "__main__":
    doors.run(__file__, main)
