"""What the papers report, to stand beside what was measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from omegaconf import OmegaConf


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One recipe of one case, or the ``teacher`` or ``ta_merged``. ``labels`` are those of the experiment's axes (of a
    model that all cases share, none)."""

    labels: dict[str, str] = field(default_factory=dict)
    recipe: str
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One table of a paper. ``columns`` are benchmarks, ``average`` (of theirs) and ``gap_to_instruct`` in percent, or
    ``bpc``; ``note`` is what a reader should know of them."""

    experiment: str
    source: str
    note: str | None = None
    columns: list[str]
    rows: list[PublishedRow]

    def of(self, labels: Mapping[str, str], recipe: str) -> dict[str, float] | None:
        """The figures of a recipe in a case by column; None where the paper has none."""
        for row in self.rows:
            if row.recipe == recipe and row.labels.items() <= labels.items():
                return dict(zip(self.columns, row.values, strict=True))
        return None


@dataclass(frozen=True, kw_only=True)
class _File:
    tables: list[PublishedTable]


@cache
def tables() -> list[PublishedTable]:
    """All published tables."""
    text = resources.files("micota.report").joinpath("published.yaml").read_text(encoding="utf-8")
    read = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(_File), OmegaConf.create(text)))
    assert isinstance(read, _File)
    return read.tables


def table_of(experiment: str) -> PublishedTable | None:
    """The published table that an experiment (its ``name``) repeats, if it repeats one."""
    return next((table for table in tables() if table.experiment == experiment), None)
