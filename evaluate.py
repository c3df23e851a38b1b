"""Evaluate a model on benchmarks: ``python evaluate.py student=qwen1.5b data=micota bench=paper``."""

from micota import doors, graph
from micota.config import EvaluateConfig
from micota.stages.make import make


def main(config: EvaluateConfig) -> None:
    make(config, "evaluate", graph.evaluation(config, config.role))


if __name__ == "__main__":
    doors.run(__file__, main)
