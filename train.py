"""Fine-tune a student on the data of one recipe, or the TA: ``python train.py student=qwen1.5b data=micota``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
