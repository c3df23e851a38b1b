"""``pipeline.py`` on a machine whose clock jumps by years, back and forth."""

import itertools
import runpy
import sys
import time
from pathlib import Path

JUMPS_S = (0, 10**9, -(10**9), 3600)
PIPELINE = Path(__file__).resolve().parents[1] / "pipeline.py"

if __name__ == "__main__":
    jumps, now, now_ns = itertools.cycle(JUMPS_S), time.time, time.time_ns
    time.time = lambda: now() + next(jumps)
    time.time_ns = lambda: now_ns() + next(jumps) * 10**9
    sys.path.insert(0, str(PIPELINE.parent))
    runpy.run_path(str(PIPELINE), run_name="__main__")
