"""From the config of an objective to the settings that determine its result."""

from __future__ import annotations

from dataclasses import replace

from micota.config.objective import ON_POLICY, SFT, ObjectiveConfig
from micota.graph.specs import Distillation


def distillation(objective: ObjectiveConfig) -> Distillation | None:
    """The settings of an objective with a teacher, with null where one does not count; None for SFT."""
    if objective.name == SFT:
        return None
    samples = objective.name == ON_POLICY
    return Distillation(
        name=objective.name,
        divergence=objective.divergence,
        beta=objective.beta if objective.divergence == "jsd" else None,
        temperature=float(objective.temperature),
        hard_weight=float(objective.hard_weight),
        top_k=objective.top_k,
        sampling=replace(objective.sampling.settled(), num_samples=1, max_thought_tokens=None) if samples else None,
        round_steps=objective.round_steps if samples else None,
    )
