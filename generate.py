"""Make the training data of one arm: ``python generate.py data=strong``."""

from micota import doors
from micota.stages.arm import make_arm

if __name__ == "__main__":
    doors.run(__file__, make_arm)
