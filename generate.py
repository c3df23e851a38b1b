"""Make the training data of one recipe: ``python generate.py data=strong``."""

from micota.cli import app as commands
from micota.cli.generate import make_recipe

if __name__ == "__main__":
    commands.run(__file__, make_recipe)
