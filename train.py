"""Fine-tune a student on the data of one arm, or the TA: ``python train.py student=qwen1.5b data=micota``."""

from micota import doors, graph
from micota.config import TrainConfig
from micota.stages.make import make


def main(config: TrainConfig) -> None:
    node = graph.trained(config, config.role)
    if config.show_samples and not config.plan:
        from micota.stages.samples import show_samples  # which imports torch

        show_samples(config, node)
    else:
        make(config, "train", [node])


if __name__ == "__main__":
    doors.run(__file__, main)
