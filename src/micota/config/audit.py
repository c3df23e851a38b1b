"""The schema of the audit of determinism: how often the same evaluation gives other answers, and with what settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from micota.config.fields import plain, positive, where

COUNTS = "a list of at least one whole number above 0"


def are_counts(values: Sequence[int]) -> bool:
    return bool(values) and all(value > 0 for value in values)


@dataclass(kw_only=True)
class AuditConfig:
    """What ``micota doctor determinism`` repeats."""

    num_problems: int = positive(
        64, about="The first problems of each benchmark that are answered.", unit="problems", results=True
    )
    batch_sizes: list[int] = where(
        COUNTS,
        are_counts,
        default_factory=lambda: [1, 8, 64],
        about="Rows in one batch (engine.batch_size) with which the evaluation is repeated.",
        unit="rows",
        results=True,
    )
    num_threads: list[int] = where(
        COUNTS,
        are_counts,
        default_factory=lambda: [1, 2],
        about="CPU threads with which the evaluation is repeated, where engine=hf runs on the CPU.",
        unit="threads",
        results=True,
    )
    other_engine: bool = plain(
        True, about="true: repeat it with the other of hf and vllm, where that is installed.", results=True
    )
