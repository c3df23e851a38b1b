"""The command train: a student or the TA fine-tuned, or its training examples shown."""

from __future__ import annotations

from micota import graph
from micota.artifacts.store import Store
from micota.cli.upload import uploading
from micota.config import TrainConfig
from micota.runtime.execute import execute


def train(config: TrainConfig) -> float | None:
    """Fine-tune the model in the role of the config. Returns its validation loss, if it has one, for sweeps that
    optimise it."""
    node = graph.trained(config, config.role)
    if config.show_samples and not config.plan:
        from micota.cli.show_samples import show_samples  # which imports torch

        show_samples(config, graph.rounds_of(node)[0])
        return None

    def objective(store: Store) -> float | None:
        manifest = store.manifest(node)
        return None if manifest is None else manifest.metrics.get("validation_loss")

    with uploading(config, node):
        execute(config, "train", [node], objective=objective)
    return None if config.plan else objective(Store(config.artifacts))
