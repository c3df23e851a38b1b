"""From the config of an objective to the settings that determine its result."""

from __future__ import annotations

from micota.config.objective import SFT, ObjectiveConfig
from micota.graph.specs import Distillation


def distillation(objective: ObjectiveConfig) -> Distillation | None:
    """The settings of an objective with a teacher, with null where one does not count; None for SFT."""
    if objective.name == SFT:
        return None
    return Distillation(
        name=objective.name,
        divergence=objective.divergence,
        beta=objective.beta if objective.divergence == "jsd" else None,
        temperature=float(objective.temperature),
        hard_weight=float(objective.hard_weight),
        top_k=objective.top_k,
    )
