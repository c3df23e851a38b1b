"""The points of a merge sweep as a table of the console, with the ties in accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from micota.analysis.intervals import ALPHA
from micota.analysis.statistics import paired_difference
from micota.console import WideTable, new_table
from micota.records import MergePoint
from micota.report.merge_sweep import most_accurate

FORMS = {"before": "before SFT", "after": "after SFT"}
STUDENT = {"student_bpc": "student BPC", "student_gain": "student %"}
Settings = dict[tuple[Any, ...], list[MergePoint]]


def with_ties(points: Sequence[MergePoint], rights: Mapping[str, Mapping[str, float]]) -> list[MergePoint]:
    """Return the points, of which each merge says whether it is distinguishable in accuracy from the best one.

    The seeds of a merge count as one: each problem has the mean of its right answers. The test is that of paired
    differences, without a correction for the number of merges: a tie is what may not be ranked.

    Args:
        rights: the share of right answers to each problem, by the artifact of a point.
    """
    by_setting = settings(points)
    if not by_setting:
        return list(points)
    means = {setting: _means(seeds, rights) for setting, seeds in by_setting.items()}
    density, weight, _, _ = most_accurate(points)
    best = next(setting for setting in means if setting[:2] == (density, weight))
    tied = {
        setting: setting == best or paired_difference({"": means[best]}, {"": mean}).p_value >= ALPHA
        for setting, mean in means.items()
    }
    return [replace(point, is_tied=tied[_setting(point)]) if point.form == "merged" else point for point in points]


def settings(points: Sequence[MergePoint]) -> Settings:
    """Return the merges by setting, each with its seeds."""
    found: Settings = {}
    for point in points:
        if point.form == "merged":
            found.setdefault(_setting(point), []).append(point)
    return found


def _setting(point: MergePoint) -> tuple[Any, ...]:
    return point.density, point.weight, repr(point.by_layer)


def _means(seeds: Sequence[MergePoint], rights: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    every = [rights[point.artifact] for point in seeds]
    return {identity: sum(each[identity] for each in every) / len(every) for identity in every[0]}


def sweep_table(points: Sequence[MergePoint], target: str | None = None, chosen: Any = None) -> WideTable:
    """Return the table: a row for each merge, with the mean over its seeds.

    The interval of the accuracy and the error of the length are those over problems, at the first seed where there are
    several: masks of other seeds do not make more problems.

    Args:
        chosen: the density and weight that calibration chose, and the weights by layer.
    """
    has_tags = any(point.num_closed is not None for point in points)
    caption = "=: not distinguishable in accuracy from the highest, on the same problems; >: chosen"
    table = new_table("", caption)
    table.add_column("merge", no_wrap=True)
    columns = ["density", "weight", "accuracy %", "95 %", "tokens"]
    columns += ["closed %"] if has_tags else []
    columns += [STUDENT[target]] if target in STUDENT else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    rows = [([point], FORMS[point.form], "") for point in points if point.form != "merged"]
    for seeds in settings(points).values():
        first = seeds[0]
        is_chosen = chosen is not None and (chosen.density, chosen.weight, chosen.by_layer) == (
            first.density, first.weight, first.by_layer
        )  # fmt: skip
        marks = ("= " if first.is_tied else "") + (">" if is_chosen else "")
        rows.append((seeds, "by layer" if first.by_layer else "merged", marks))
    for seeds, name, marks in rows:
        table.add_row(f"{name} {marks}".strip(), *_cells(seeds, has_tags=has_tags, target=target))
    return table


def _cells(seeds: Sequence[MergePoint], *, has_tags: bool, target: str | None) -> list[str]:
    first = seeds[0]
    accuracy = sum(point.num_correct for point in seeds) / sum(point.num_problems for point in seeds)
    tokens = sum(point.num_tokens for point in seeds) / len(seeds)
    low, high = first.accuracy_low, first.accuracy_high
    cells = [
        "" if first.density is None else f"{first.density:g}",
        "" if first.weight is None else f"{first.weight:.3g}",
        f"{100 * accuracy:.1f}",
        "" if low is None or high is None else f"{100 * low:.1f}-{100 * high:.1f}",
        f"{tokens:.0f}" + ("" if first.tokens_error is None else f" ±{first.tokens_error:.1f}"),
    ]
    if has_tags:
        closed = sum(point.num_closed or 0 for point in seeds)
        cells.append(f"{100 * closed / sum(point.num_problems for point in seeds):.1f}")
    if target in STUDENT:
        values = [point.student_value for point in seeds if point.student_value is not None]
        factor = 100 if target == "student_gain" else 1
        cells.append(f"{factor * sum(values) / len(values):.{1 if factor == 100 else 4}f}" if values else "-")
    return cells
