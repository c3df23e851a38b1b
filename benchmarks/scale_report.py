"""Work for ``scale.py`` on what is shown and chosen: comparisons, matched recipes, curricula, forecasts, pages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from micota.analysis.forecast import FEATURES, Outcome, fit
from micota.artifacts.store import Store
from micota.config import Call
from micota.config.curriculum import CurriculumConfig
from micota.data.mixtures import match
from micota.report.evaluations import Evaluation, pairings

Prepared = Callable[[], object]
NUM_PARTS = 8


def compare(size: int, folder: Path) -> Prepared:
    """Five evaluations against a sixth, on ``size`` problems."""
    generator = np.random.default_rng(0)
    every = [
        Evaluation(
            name=f"m{number}", samples={"bench": {str(i): [bool(generator.random() < 0.5)] for i in range(size)}}
        )
        for number in range(6)
    ]
    return lambda: pairings(every, "m0")


def matched(size: int, folder: Path) -> Prepared:
    """Recipes of ``NUM_PARTS`` generators and a mixture of two, with ``size`` examples each, on the same problems."""
    pools = {
        f"g{part}": [SimpleNamespace(problem_id=str(i), num_tokens=9, source=f"g{part}") for i in range(size)]
        for part in range(NUM_PARTS)
    }
    recipes = {label: {label: 1.0} for label in pools} | {"mix": {"g0": 0.2, "g1": 0.8}}
    select: Any = SimpleNamespace(match="problems", num_examples=None)
    return lambda: match(pools, recipes, select, 0)


def curriculum(size: int, folder: Path) -> Prepared:
    """The steps of ``size`` examples of ``NUM_PARTS`` parts, whose shares move."""
    from micota.sft.curriculum import ordered

    names = [f"p{part}" for part in range(NUM_PARTS)]
    points = [{"at": 0, **dict.fromkeys(names, 1 / NUM_PARTS)}, {"at": 1, names[0]: 1.0}]
    moving = CurriculumConfig(order="mixture", points=points)
    steps = [list(range(start, start + 32)) for start in range(0, size, 32)]
    sources = [names[unit % NUM_PARTS] for unit in range(size)]
    return lambda: ordered(moving, steps, [9] * size, sources, 0)


def forecast(size: int, folder: Path) -> Prepared:
    """A forecast from ``size`` recipes of ten students."""
    generator = np.random.default_rng(0)
    outcomes = [
        Outcome(
            student=f"s{student}", recipe=f"r{recipe}", seed=0, gain=float(generator.normal()),
            known={name: float(generator.random()) + 0.1 for name in FEATURES},
        )
        for student in range(10)
        for recipe in range(size)
    ]  # fmt: skip
    return lambda: fit(outcomes)


def page(size: int, folder: Path) -> Prepared:
    """The page of ``size`` cases with the artifacts of one."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # for the synthetic store
    import synthetic_store

    from micota.report.page import render_page

    store = Store(folder / "artifacts")
    case = synthetic_store.case_report(store, seeds=(0,))
    cases = [replace(case, summary=replace(case.summary, labels={"student": f"s{number}"})) for number in range(size)]
    return lambda: render_page("page", cases, store, seed=0, call=Call())
