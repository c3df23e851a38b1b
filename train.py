"""Fine-tune a student on the data of one recipe, or the TA: ``python train.py student=qwen1.5b data=micota``."""

from micota import graph
from micota.cli import app as commands
from micota.config import TrainConfig
from micota.runtime.execute import execute


def main(config: TrainConfig) -> None:
    node = graph.trained(config, config.role)
    if config.show_samples and not config.plan:
        from micota.cli.show_samples import show_samples  # which imports torch

        show_samples(config, node)
    else:
        execute(config, "train", [node])


if __name__ == "__main__":
    commands.run(__file__, main)
