"""Run the whole method for one student and compare the recipes: ``python pipeline.py experiment=tiny``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
