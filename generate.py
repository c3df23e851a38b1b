"""Make the training data of one recipe: ``python generate.py data=strong``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
