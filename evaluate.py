"""Evaluate a model on benchmarks: ``python evaluate.py student=qwen1.5b data=micota bench=paper``."""

from micota.cli import app as commands
from micota.cli.evaluate import evaluate
from micota.config import EvaluateConfig


def main(config: EvaluateConfig) -> None:
    evaluate(config)


if __name__ == "__main__":
    commands.run(__file__, main)
