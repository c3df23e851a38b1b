from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from micota import graph
from micota.config import SftConfig
from micota.config.curriculum import CurriculumConfig, are_points
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.sft.curriculum import ordered
from micota.sft.splits import schedule

LENGTHS = [7, 3, 9, 1, 5, 8, 2, 6, 4, 10]
SOURCES = ["long" if length > 5 else "short" for length in LENGTHS]
MOVING = CurriculumConfig(order="mixture", points=[{"at": 0, "short": 1}, {"at": 1, "short": 0.2, "long": 0.8}])


def of(curriculum: CurriculumConfig, epochs: float, expected: int | None = None) -> list[list[int]]:
    steps = schedule(len(LENGTHS), 2, epochs, seed=0)
    return ordered(curriculum, steps, LENGTHS, SOURCES, 0, expected)


@pytest.mark.parametrize(("order", "sign"), [("short_to_long", 1), ("long_to_short", -1)])
def test_each_epoch_goes_by_length_over_all_examples(order: str, sign: int) -> None:
    steps = of(CurriculumConfig(order=order), 2)
    assert len(steps) == 10 and all(len(step) == 2 for step in steps)
    for epoch in (steps[:5], steps[5:]):
        seen = [LENGTHS[unit] for step in epoch for unit in step]
        assert seen == sorted(LENGTHS, key=lambda length: sign * length)


def test_a_run_that_a_budget_ends_early_goes_from_short_to_long_all_the_same() -> None:
    steps = of(CurriculumConfig(order="short_to_long"), 100, expected=3)
    first = [LENGTHS[unit] for step in steps[:3] for unit in step]
    assert first == sorted(first) and len(set(first)) == 6


def test_a_mixture_moves_from_one_point_to_the_next() -> None:
    steps = of(MOVING, 20)
    counts = [Counter(SOURCES[unit] for step in steps[start : start + 20] for unit in step) for start in (0, 80)]
    assert counts[0]["long"] == pytest.approx(0.08 * 40, abs=1.5) and counts[1]["long"] == pytest.approx(29, abs=1.5)
    units = Counter(unit for step in steps for unit in step if SOURCES[unit] == "short")
    assert max(units.values()) - min(units.values()) <= 1, "examples of a part repeat equally often"
    assert steps == of(MOVING, 20) and steps != ordered(MOVING, schedule(10, 2, 20, seed=0), LENGTHS, SOURCES, 1)


def test_a_part_without_examples_is_refused() -> None:
    points = [{"at": 0, "middle": 1}]
    with pytest.raises(ConfigError, match=r"names 'middle', and no example is of it; accepted: long, short"):
        of(CurriculumConfig(order="mixture", points=points), 1)


@pytest.mark.parametrize(
    "points",
    [
        [{"at": 0.5, "a": 1}],
        [{"at": 0, "a": 0.5}],
        [{"at": 0}],
        [{"at": 0, "a": 1}, {"at": 0, "a": 1}],
        [{"a": 1}],
        [3],
    ],
)
def test_points_that_are_no_mixture_are_refused(points: list[Any]) -> None:
    assert not are_points(points)


def test_points_need_the_order_that_reads_them() -> None:
    assert list(CurriculumConfig(order="mixture").conflicts()) and list(
        CurriculumConfig(points=MOVING.points).conflicts()
    )
    assert not list(MOVING.conflicts())


def test_annealing_trains_on_merges_at_rising_weights(composed: Callable[..., Any]) -> None:
    config = composed("train", "experiment=tiny", "data=annealed", "curriculum=merge_annealing")
    node: AnyNode = graph.trained(config, "student")
    merges = {each.choose["merge.weight"]: each.spec.weight for each in node.walk() if each.stage == "merge"}
    assert merges == {"0.2": 0.2, "0.45": 0.45, "0.7": 0.7}
    assert {part.spec.recipe for part in node.inputs["data"].inputs.values()} == {
        name for point in config.student.sft.curriculum.points for name in point if name != "at"
    }
    plain = composed("train", "experiment=tiny", "data=annealed")
    assert isinstance(plain.student.sft, SftConfig) and graph.trained(plain, "student").key != node.key


def test_a_merge_weight_of_another_generator_is_refused(composed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"merge_weight=0\.3 with generator=teacher; accepted: generator=ta_merged"):
        composed("train", "experiment=tiny", "data=strong", "data.merge_weight=0.3")
