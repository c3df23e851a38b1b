"""Forecasts of a comparison's recipes beside what happened, where ``micota forecast`` made some."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from micota.analysis.learnability import MIN_RECIPES, Trial, spearman
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.left_out import leaving_out
from micota.artifacts.manifest import MANIFEST, Manifest, read_manifest
from micota.artifacts.store import Store, verified_folder
from micota.errors import ArtifactError
from micota.graph import Comparison, Recipe
from micota.graph.evaluations import data_of_forecast
from micota.graph.specs import ForecastSpec
from micota.records import FORECAST, ForecastRow


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The forecast of one recipe at one seed, and its gain; ``was_before``: it was stored before training began."""

    seed: int
    forecast: ForecastRow
    gain: float
    was_before: bool

    @property
    def recipe(self) -> str:
        return self.forecast.recipe

    @property
    def is_inside(self) -> bool:
        return self.forecast.low <= self.gain <= self.forecast.high


def checked(store: Store, by_seed: Mapping[int, Comparison], trials: Sequence[Trial]) -> list[Checked]:
    """Return the forecast of every recipe with its gain: of several, the last before training, else the first after.

    Damaged forecasts are left out, and named on the console: the report does not need them.
    """
    forecasts = list(_forecasts(store))
    gains = {(trial.seed, trial.recipe): trial.gain for trial in trials}
    found = []
    for seed, made in by_seed.items():
        for recipe in made.recipes:
            own = _of_recipe(forecasts, recipe)
            start = _start(store, recipe) if own else None
            if start is not None and (seed, recipe.name) in gains:
                before = [one for one in own if one[0] <= start]
                _, row = before[-1] if before else own[0]
                found.append(Checked(seed=seed, forecast=row, gain=gains[seed, recipe.name], was_before=bool(before)))
    return found


def _of_recipe(
    forecasts: Sequence[tuple[Manifest, list[ForecastRow]]], recipe: Recipe
) -> list[tuple[datetime, ForecastRow]]:
    """The forecasts from the data of a recipe under its student, with the times at which they were made, in order."""
    label = data_of_forecast(recipe.name)
    own = [
        (datetime.fromisoformat(manifest.finished_at), row)
        for manifest, rows in forecasts
        if recipe.bpc is not None and manifest.inputs.get(label, {}).get("key") == recipe.bpc.key
        for row in rows
        if row.recipe == recipe.name
    ]
    return sorted(own, key=lambda one: one[0])


def _forecasts(store: Store) -> Iterator[tuple[Manifest, list[ForecastRow]]]:
    folder = store.root / ForecastSpec.kind
    with leaving_out(folder) as attempt:
        for path in sorted(folder.glob(f"*/{MANIFEST}")):
            with attempt():
                yield read_manifest(path.parent), read_jsonl(verified_folder(path.parent) / FORECAST, ForecastRow)


def _start(store: Store, recipe: Recipe) -> datetime | None:
    """When the training of a recipe's student began; None where its model is no longer stored."""
    for node in recipe.scores.values():
        model = node.inputs["completions"].inputs["model"]
        with suppress(ArtifactError):
            manifest = None if model.is_source else store.manifest(model)
            if manifest is not None:
                # The time of the end is cut to a whole second, so that it was up to a second later.
                return datetime.fromisoformat(manifest.finished_at) + timedelta(seconds=1 - manifest.seconds)
    return None


def forecast_words(every: Sequence[Checked]) -> str:
    """Return how good the forecasts were, in sentences; empty without any."""
    if not every:
        return ""
    expected = _means([(one.recipe, one.forecast.gain) for one in every])
    true = _means([(one.recipe, one.gain) for one in every])
    inside = sum(one.is_inside for one in every)
    parts = [f"{inside} of {len(every)} intervals hold the gain."]
    if len(true) >= MIN_RECIPES:
        rank = float(spearman(np.array([expected[name] for name in true]), np.array(list(true.values()))))
        if not math.isnan(rank):
            parts.append(f"Rank correlation of expected and true gains over recipes: {rank:+.2f}.")
    best, chosen = max(true.values()), max(expected, key=lambda name: expected[name])
    lost = {f"{chosen}, which was forecast as the best,": true[chosen]}
    lost |= {f"always {name}": true[name] for name in ("micota", "short") if name in true}
    regrets = "; ".join(f"{name} loses {100 * (best - gain):.1f}" for name, gain in lost.items())
    parts.append(f"In points below the best recipe: {regrets}.")
    if late := sum(not one.was_before for one in every):
        parts.append(f"{late} of the forecasts were made after training began.")
    return " ".join(parts)


def _means(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    by_name: dict[str, list[float]] = {}
    for name, value in pairs:
        by_name.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in by_name.items()}
