"""Weights & Biases: a run a task, with group, job type, tags, config, summary, tables and the lineage of artifacts."""

from micota.tracking.runs import (
    OBJECTIVE,
    NoRun,
    Run,
    check_tracker,
    offline_runs,
    sync_command,
    track,
    track_command,
    tracks_command,
)

__all__ = [
    "OBJECTIVE",
    "NoRun",
    "Run",
    "check_tracker",
    "offline_runs",
    "sync_command",
    "track",
    "track_command",
    "tracks_command",
]
