"""Published results of the papers, shown beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from omegaconf import OmegaConf

NOT_BENCHMARKS = ("average", "gap_to_instruct", "bpc")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One recipe of one case, or the ``teacher`` or ``ta_merged``. ``labels`` are values on the experiment's axes; they
    are empty for a model that all cases share."""

    labels: dict[str, str] = field(default_factory=dict)
    recipe: str
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One table of a paper.

    ``columns`` are benchmarks, their ``average`` and ``gap_to_instruct`` in percent, or ``bpc``; ``average_of`` are the
    benchmarks of the average where there is no column of each. ``graded_by`` is ``paper_rule``, or ``judge``: the rule,
    then a judge of the answers that it rejects. ``also`` names other experiments that reproduce some recipes. ``note``
    is a remark for readers.
    """

    experiment: str
    source: str
    note: str | None = None
    also: dict[str, list[str]] = field(default_factory=dict)
    graded_by: str = "paper_rule"
    average_of: list[str] = field(default_factory=list)
    columns: list[str]
    rows: list[PublishedRow]

    def of(self, labels: Mapping[str, str], recipe: str) -> dict[str, float] | None:
        """Return the values of a recipe in a case by column; None if the paper has none."""
        for row in self.rows:
            if row.recipe == recipe and row.labels.items() <= labels.items():
                return dict(zip(self.columns, row.values, strict=True))
        return None

    def reproduced_by(self, experiment: str, recipe: str) -> bool:
        """Whether an experiment (its ``name``) reproduces the rows of a recipe."""
        return experiment == self.experiment or recipe in self.also.get(experiment, [])

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks of the average."""
        return self.average_of or [name for name in self.columns if name not in NOT_BENCHMARKS]


@dataclass(frozen=True, kw_only=True)
class _File:
    tables: list[PublishedTable]


@cache
def tables() -> list[PublishedTable]:
    """Return all published tables."""
    text = resources.files("micota.report").joinpath("published.yaml").read_text(encoding="utf-8")
    read = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(_File), OmegaConf.create(text)))
    assert isinstance(read, _File)
    return read.tables


def tables_of(experiment: str) -> list[PublishedTable]:
    """Return the published tables that an experiment (its ``name``) reproduces in whole or in part, each with the
    rows of the recipes that it reproduces."""
    known = [table for table in tables() if experiment == table.experiment or experiment in table.also]
    return [
        replace(table, rows=[row for row in table.rows if table.reproduced_by(experiment, row.recipe)])
        for table in known
    ]
