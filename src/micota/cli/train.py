"""The command train: a student or the TA fine-tuned, or its training examples shown."""

from __future__ import annotations

from micota import graph
from micota.config import TrainConfig
from micota.runtime.execute import execute


def train(config: TrainConfig) -> None:
    """Fine-tune the model in the role of the config."""
    node = graph.trained(config, config.role)
    if config.show_samples and not config.plan:
        from micota.cli.show_samples import show_samples  # which imports torch

        show_samples(config, node)
    else:
        execute(config, "train", [node])
