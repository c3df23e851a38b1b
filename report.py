"""Show the comparison of all recipes, as a table and a page: ``python report.py experiment=tiny``."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
