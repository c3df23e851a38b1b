"""Merge the TA before and after SFT (``python merge.py merge.weight=0.5``), or measure merges (``sweep=true``)."""

from _checkout import start

if __name__ == "__main__":
    start(__file__)
