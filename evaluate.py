"""Evaluate a model on benchmarks: ``python evaluate.py student=qwen1.5b data=micota bench=paper``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
