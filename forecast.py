"""Say what a student will gain from recipes: ``python forecast.py student=qwen1.5b 'data=[strong,micota]'``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
