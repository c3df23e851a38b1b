"""From a config to the graph of artifacts: pure, no torch, no disk."""

from micota.graph.comparison import (
    Arm,
    ArmConfig,
    Case,
    CaseConfig,
    Comparison,
    Experiment,
    comparison,
    experiment,
    unique,
)
from micota.graph.leaves import likelihood_of, questions, source
from micota.graph.measures import bpc, evaluation, rank_shifts, scores
from micota.graph.nodes import data, merged, model, probe, trained
from micota.graph.specs import CompletionsSpec, DataSpec, MergeSpec, ProbeSpec, Prompt, ScoresSpec, TrainSpec

__all__ = [
    "Arm",
    "ArmConfig",
    "Case",
    "CaseConfig",
    "Comparison",
    "CompletionsSpec",
    "DataSpec",
    "Experiment",
    "MergeSpec",
    "ProbeSpec",
    "Prompt",
    "ScoresSpec",
    "TrainSpec",
    "bpc",
    "comparison",
    "data",
    "evaluation",
    "experiment",
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
