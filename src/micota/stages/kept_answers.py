"""Answers that an audit keeps until it is whole, so that a stopped one goes on after the runs that had ended."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.provenance import hardware, versions
from micota.artifacts.quick_sums import changed, write_sums
from micota.records import Completion

logger = logging.getLogger(__name__)


class KeptAnswers:
    """The answers of one run, in a file below ``folder`` whose name is the hash of what they depend on: ``settings``,
    this machine and the versions of libraries. An audit that goes on elsewhere begins again: it asks whether the same
    machine gives the same answers."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        content = json.dumps([settings, hardware(), versions()], sort_keys=True)
        self._rows = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.jsonl"
        self._sums = self._rows.with_suffix(".sums.json")

    def read(self) -> list[Completion] | None:
        """The answers of a run that had ended; None without them, or where they are damaged."""
        if not self._sums.exists():
            return None
        if (problem := changed(self._sums)) is not None:
            logger.warning("%s: answered again", problem)
            return None
        return read_jsonl(self._rows, Completion)

    def write(self, rows: Sequence[Completion]) -> None:
        """Write the answers of a run that has ended; they count from the moment when their sum is written."""
        self._rows.parent.mkdir(exist_ok=True)
        self._sums.unlink(missing_ok=True)
        write_jsonl(self._rows, rows)
        write_sums(self._sums, [self._rows])
