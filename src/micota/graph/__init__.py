"""From a config to the graph of artifacts: pure, no torch, no disk."""

from micota.graph.comparison import Arm, Comparison, comparison, unique
from micota.graph.nodes import (
    bpc,
    data,
    evaluation,
    likelihood_of,
    merged,
    model,
    probe,
    questions,
    rank_shifts,
    scores,
    source,
    trained,
)
from micota.graph.specs import CompletionsSpec, DataSpec, MergeSpec, ProbeSpec, Prompt, ScoresSpec, TrainSpec

__all__ = [
    "Arm",
    "Comparison",
    "CompletionsSpec",
    "DataSpec",
    "MergeSpec",
    "ProbeSpec",
    "Prompt",
    "ScoresSpec",
    "TrainSpec",
    "bpc",
    "comparison",
    "data",
    "evaluation",
    "likelihood_of",
    "merged",
    "model",
    "probe",
    "questions",
    "rank_shifts",
    "scores",
    "source",
    "trained",
    "unique",
]
