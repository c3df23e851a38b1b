"""Published results of the papers, shown beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from omegaconf import OmegaConf


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One recipe of one case, or the ``teacher`` or ``ta_merged``. ``labels`` are values on the experiment's axes; they
    are empty for a model that all cases share."""

    labels: dict[str, str] = field(default_factory=dict)
    recipe: str
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One table of a paper. ``columns`` are benchmarks, their ``average`` and ``gap_to_instruct`` in percent, or
    ``bpc``; ``note`` is a remark for readers."""

    experiment: str
    source: str
    note: str | None = None
    columns: list[str]
    rows: list[PublishedRow]

    def of(self, labels: Mapping[str, str], recipe: str) -> dict[str, float] | None:
        """Return the values of a recipe in a case by column; None if the paper has none."""
        for row in self.rows:
            if row.recipe == recipe and row.labels.items() <= labels.items():
                return dict(zip(self.columns, row.values, strict=True))
        return None


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


def table_of(experiment: str) -> PublishedTable | None:
    """Return the published table that an experiment (its ``name``) reproduces, or None."""
    return next((table for table in tables() if table.experiment == experiment), None)
