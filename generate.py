"""Make the training data of one arm: ``python generate.py data=strong``."""

from micota import doors, graph
from micota.config import GenerateConfig
from micota.console import open_console
from micota.stages.make import make
from micota.stages.show_prompts import show_prompts


def main(config: GenerateConfig) -> None:
    if config.show_prompts and not config.plan:
        show_prompts(config, open_console())
    else:
        make(config, "generate", [graph.data(config, config.data)])


if __name__ == "__main__":
    doors.run(__file__, main)
