"""Run the whole method for one student and compare the arms: ``python pipeline.py experiment=tiny``."""

from micota import doors, experiments
from micota.config import PipelineConfig
from micota.stages.pipeline import pipeline


def main(config: PipelineConfig) -> None:
    pipeline(config, experiments.cases(config))


if __name__ == "__main__":
    doors.run(__file__, main)
