"""Run the whole method for one student and compare the recipes: ``python pipeline.py experiment=tiny``."""

from micota.cli import app as commands
from micota.cli import experiments
from micota.cli.pipeline import pipeline
from micota.config import PipelineConfig


def main(config: PipelineConfig) -> None:
    pipeline(config, experiments.cases(config))


if __name__ == "__main__":
    commands.run(__file__, main)
