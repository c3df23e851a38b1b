"""What the comparison of artifacts with their sums adds to an experiment, by default to ``make demo``, on one core.

    python benchmarks/verification.py [--off] [WORD ...]

It counts the processor time of the whole run and, of that, the time within the comparisons. ``--off`` runs without
them, to compare the whole of two runs. Each run makes everything in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from micota.artifacts import local, store
from micota.cli.app import main as command

DEMO = ["experiment=tiny"]


class Verification:
    """Processor seconds and number of the comparisons, of which one may contain others."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0
        self._depth = 0

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapped(*arguments: Any) -> Any:
            began = time.thread_time()
            self._depth += 1
            try:
                return function(*arguments)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.thread_time() - began
                    self.calls += 1

        return wrapped


def processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--off", action="store_true", help="compare nothing")
    parser.add_argument("words", nargs="*", default=DEMO)
    given = parser.parse_args()
    counts = Verification()
    verify = (lambda *_: None) if given.off else store.verify
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {"MICOTA_ARTIFACTS": folder}),
        patch.object(store, "verify", verify),
        patch.object(store.Store, "verified", counts.counted(store.Store.verified)),
        patch.object(store, "verified_folder", counts.counted(store.verified_folder)),
        patch.object(local, "fingerprint", counts.counted(local.fingerprint)),
    ):
        began = processor_seconds()
        command(["pipeline", *given.words, "runner=inprocess", "num_threads=1"])
        all_seconds = processor_seconds() - began
        num_artifacts = len(list(Path(folder).glob("*/*/manifest.json")))
    of = f"{' '.join(given.words)}{', off' if given.off else ''}"
    share = f"{counts.seconds:.3f} s ({counts.seconds / all_seconds:.2%}) in {counts.calls} comparisons"
    print(f"{of}: {all_seconds:.1f} s of a processor for {num_artifacts} artifacts, {share}", file=sys.stderr)


if __name__ == "__main__":
    main()
