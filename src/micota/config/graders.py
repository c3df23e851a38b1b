"""The table of graders; the entries are in micota.grading.graders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from micota.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Grader:
    """A way to decide whether an answer is right. Scores hold the verdicts of all graders.

    Args:
        name: as in ``evaluation.grader``.
        verdicts: from the open ``Graders``, ``Submission`` rows and the benchmark's rule to as many ``Verdict``; None
            for a judge, whose verdicts come from a model at ``evaluation.judge``.
    """

    name: str
    verdicts: Callable[[Any, Any, str], list[Any]] | None


GRADERS: Registry[Grader] = Registry("grader", home="micota.grading.graders")
