"""Weights & Biases: a run a task, with group, job type, tags, config, summary, tables and the lineage of artifacts."""

from micota.tracking.runs import NoRun, Run, check_tracker, sync_command, track

__all__ = ["NoRun", "Run", "check_tracker", "sync_command", "track"]
