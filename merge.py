"""Merge the TA before and after SFT (``python merge.py merge.weight=0.5``), or measure merges
(``sweep=true``)."""

from micota import graph
from micota.cli import app as commands
from micota.config import MergeCommandConfig
from micota.runtime.execute import execute


def main(config: MergeCommandConfig) -> None:
    execute(config, "merge", [graph.merge_sweep(config) if config.sweep else graph.merged(config)])


if __name__ == "__main__":
    commands.run(__file__, main)
