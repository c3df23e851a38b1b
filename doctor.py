"""Find out before training what a run would learn and need: ``python doctor.py student=qwen1.5b data=micota``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
