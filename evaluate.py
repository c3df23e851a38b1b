"""Evaluate a model on benchmarks: ``python evaluate.py student=qwen1.5b data=micota bench=paper``."""

from micota import doors
from micota.config import EvaluateConfig
from micota.stages.evaluate import evaluate


def main(config: EvaluateConfig) -> None:
    evaluate(config)


if __name__ == "__main__":
    doors.run(__file__, main)
