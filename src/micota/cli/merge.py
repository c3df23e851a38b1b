"""The command merge: a merged TA, or merges measured in memory."""

from __future__ import annotations

from micota import graph
from micota.cli.upload import uploading
from micota.config import MergeCommandConfig
from micota.runtime.execute import execute


def merge(config: MergeCommandConfig) -> None:
    """Write the merge of the config, or with ``sweep=true`` measure the points of its grid."""
    node = graph.merge_sweep(config) if config.sweep else graph.merged(config)
    with uploading(config, node):
        execute(config, "merge", [node])
