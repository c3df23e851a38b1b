"""Measures of recipes under a student, and finished trainings of others -> the gain to expect from each recipe."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np

from micota.analysis.forecast import FEATURES, MIN_STUDENTS, fit, skill
from micota.artifacts.jsonl import write_jsonl, write_text
from micota.artifacts.manifest import read_manifest
from micota.config import ForecastConfig
from micota.errors import ArtifactError
from micota.graph.evaluations import data_of_forecast
from micota.graph.specs import ForecastSpec
from micota.records import FORECAST, ForecastRow
from micota.report.outcomes import all_outcomes, as_table, measures_of, sum_of
from micota.runtime.inputs import input_path
from micota.runtime.work import Work

TABLE, SKILL = "outcomes.csv", "skill.json"


def forecast(work: Work[ForecastSpec]) -> None:
    """Expected gains with intervals, one row for each recipe; beside them the table that they are fitted on, and how
    good such forecasts are for its own students when each is left out."""
    spec, config = work.node.spec, work.config
    assert isinstance(config, ForecastConfig)
    student = next(iter(work.node.inputs.values())).inputs["model"]
    outcomes = all_outcomes(work.store, config.outcomes, without=f"{student.name}-{student.key}")
    if sum_of(outcomes) != spec.outcomes:
        raise ArtifactError(f"{work.store.root}: trainings have ended since the forecast began; run the command again")
    manifests = {label: read_manifest(input_path(work.store, node)) for label, node in work.node.inputs.items()}
    scored = [manifest.metrics["accuracy"] for label, manifest in manifests.items() if label.startswith("scores of ")]
    known = {
        recipe: measures_of(manifests[data_of_forecast(recipe)]) | {"accuracy_before": float(np.mean(scored))}
        for recipe in spec.recipes
    }
    # A table may have measures that artifacts of older versions lack.
    features = [name for name in FEATURES if all(name in one for one in known.values())]
    forecaster = fit(outcomes, features)
    rows = [ForecastRow(recipe=name, **asdict(forecaster.expect(name, own)), known=own) for name, own in known.items()]
    write_jsonl(work.build.path / FORECAST, rows)
    write_text(work.build.path / TABLE, as_table(outcomes))
    work.build.counts |= {"outcomes": len(outcomes), "students": len(forecaster.students), "recipes": len(rows)}
    if len(forecaster.students) > MIN_STUDENTS:  # so that enough remain when one is left out
        judged = skill(outcomes, features)
        write_text(work.build.path / SKILL, json.dumps(asdict(judged), indent=1) + "\n")
        work.build.metrics |= {name: getattr(judged, name) for name in ("spearman", "coverage", "mean_error")}
