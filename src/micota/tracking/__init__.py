"""Weights & Biases: a run a task, with group, job type, tags, config, summary, tables and the lineage of artifacts."""

from micota.tracking.runs import NoRun, Run, check_tracker, offline_runs, sync_command, track

__all__ = ["NoRun", "Run", "check_tracker", "offline_runs", "sync_command", "track"]
