"""The self-contained page of an experiment: results with intervals, answers, and the lineage of every number."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from micota import __version__
from micota.analysis.lengths import REFLECTION_WORDS
from micota.artifacts.store import Store
from micota.config import Call
from micota.graph.node import AnyNode
from micota.records import OUTCOMES
from micota.report.answers import MAX_COMPLETION_BYTES, answers
from micota.report.case_figures import case_captions, case_figures, case_gap_differences
from micota.report.collect import CaseReport, by_name
from micota.report.figures import captions, figures
from micota.report.forecasts import forecast_words
from micota.report.frames import exports, relative_improvements
from micota.report.html import render
from micota.report.lineage import Steps, trace
from micota.report.read import manifest_of
from micota.report.rows import MERGED_TITLE, Row, ta_title
from micota.report.style import METHOD, TA_COLOUR, TEACHER_COLOUR, recipe_colours
from micota.report.table import interval, mark, sentences, tally, verdict


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of a case: a recipe, the TA at a merge weight, or the teacher. ``scores`` are by seed and benchmark,
    ``bpc`` (of its data) by seed; ``row`` is None for a model without scores."""

    index: int
    label: str
    colour: str
    is_recipe: bool
    row: Row | None
    scores: Mapping[int, Mapping[str, AnyNode]]
    bpc: Mapping[int, AnyNode] = field(default_factory=dict)


def render_page(name: str, cases: Sequence[CaseReport], store: Store, seed: int, call: Call) -> str:
    """Return the page as self-contained HTML.

    Answers are those of ``seed``, or of the first seed of a case that was not run with it. ``call`` is the command of
    the experiment; the commands on the page repeat its settings.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    models = [list_models(case) for case in cases]
    charts_by_case = [figures(case.summary) for case in cases]
    overview = case_figures([case.summary for case in cases])
    overview_captions = case_captions([case.summary for case in cases]) if overview else {}
    payload = {
        "figures": [_plain(charts) for charts in charts_by_case],
        "overview": _plain(overview),
        "answers": browse(store, cases, models, seed),
        "lineage": trace_all(store, cases, models, call),
        "reflection": REFLECTION_WORDS,
    }
    return render(
        "page.html",
        title=cases[0].summary.title if len(cases) == 1 else name,
        cases=[
            {
                "summary": case.summary,
                "headline": " ".join(filter(None, sentences(case.summary))),
                "models": case_models,
                "figures": [(key, *text) for key, text in captions(case.summary).items() if key in charts],
                "exports": exports(case.summary),
                "relative": relative_improvements(case.summary),
            }
            for case, case_models, charts in zip(cases, models, charts_by_case, strict=True)
        ],
        # Each value once, in the order of the cases. The name of an axis may have dots, which Jinja would follow.
        axes={
            axis: list(dict.fromkeys(case.summary.labels[axis] for case in cases)) for axis in cases[0].summary.labels
        },
        overview={key: overview_captions[key] for key in overview},
        gap_differences=case_gap_differences([case.summary for case in cases]),
        method=METHOD,
        baseline=cases[0].summary.baseline,
        reflection=REFLECTION_WORDS,
        outcomes=[name for name in OUTCOMES if any(m.row and m.row.outcomes.get(name) for m in chain(*models))],
        provenance=manifest_of(store, next(iter(cases[0].by_seed.values())).targets()[0]),
        artifacts=store.root.name,
        version=__version__,
        payload=pack(json.dumps(payload, ensure_ascii=False)),
        plotly=pack(get_plotlyjs()),
        interval=interval,
        mark=mark,
        tally=tally,
        verdict=verdict,
        forecast_words=forecast_words,
    )


def _plain(charts: Mapping[str, go.Figure]) -> dict[str, Any]:
    return {key: json.loads(figure.to_json()) for key, figure in charts.items()}


def list_models(case: CaseReport) -> list[Model]:
    """Return recipes, then the TA by merge weight, then the teacher. Recipes without scores have only the BPC of their
    data."""
    summary, by_seed = case.summary, case.by_seed
    recipes = by_name(by_seed)
    colours = recipe_colours(list(recipes))
    rows: dict[str, Row | None] = dict.fromkeys(recipes)
    rows |= {row.name: row for row in summary.recipes}
    models = [
        Model(
            index=index,
            label=name,
            colour=colours[name],
            is_recipe=True,
            row=row,
            scores={seed: recipe.scores for seed, recipe in recipes[name].items()},
            bpc={seed: recipe.bpc for seed, recipe in recipes[name].items() if recipe.bpc is not None},
        )
        for index, (name, row) in enumerate(rows.items())
    ]
    of_ta: dict[str, dict[int, dict[str, AnyNode]]] = {
        ta_title(weight): {seed: made.curve[weight] for seed, made in by_seed.items()} for weight in summary.curve
    }
    of_ta[MERGED_TITLE] = {seed: made.merged for seed, made in by_seed.items()}
    for label, row in summary.ta_rows:
        scores = of_ta[label]
        models.append(Model(index=len(models), label=label, colour=TA_COLOUR, is_recipe=False, row=row, scores=scores))
    if summary.teacher is not None:
        scores = {seed: made.teacher for seed, made in by_seed.items()}
        colour = TEACHER_COLOUR
        models.append(
            Model(
                index=len(models), label="teacher", colour=colour, is_recipe=False, row=summary.teacher, scores=scores
            )
        )
    return models


def browse(
    store: Store, cases: Sequence[CaseReport], models: Sequence[Sequence[Model]], seed: int
) -> list[dict[str, Any]]:
    """Return the data of the answer browser for each case; all cases share ``MAX_COMPLETION_BYTES``."""
    browsers = []
    for case, case_models in zip(cases, models, strict=True):
        every = [shown for shown in case.by_seed if all(shown in model.scores for model in case_models)]
        shown = seed if seed in every else min(every)
        scores = [model.scores[shown] for model in case_models]
        browsers.append(
            {
                "seed": shown,
                "models": [{"label": m.label, "colour": m.colour, "is_recipe": m.is_recipe} for m in case_models],
                "benchmarks": answers(store, scores, MAX_COMPLETION_BYTES // len(cases)),
            }
        )
    return browsers


def trace_all(
    store: Store, cases: Sequence[CaseReport], models: Sequence[Sequence[Model]], call: Call
) -> dict[str, Any]:
    """Return the steps behind every number, and for each case and model the folders of each of its numbers, by seed.

    An average has the folders of all benchmarks. The merges of a merge sweep come last, as one model.
    """
    steps: Steps = {}
    roots = []
    for case, case_models in zip(cases, models, strict=True):
        for seed, made in case.by_seed.items():
            trace(steps, store, made.targets(), call, seed)
        merge_sweeps = {
            seed: [made.merge_sweep.folder] for seed, made in case.by_seed.items() if made.merge_sweep is not None
        }
        roots.append([{"label": model.label, "measures": _measures(model)} for model in case_models])
        if merge_sweeps:
            roots[-1].append({"label": "merges", "measures": {"merge_sweep": merge_sweeps}})
    return {"steps": steps, "models": roots}


def _measures(model: Model) -> dict[str, dict[int, list[str]]]:
    folders: dict[str, dict[int, list[str]]] = {}
    for seed, scores in model.scores.items():
        for bench, node in scores.items():
            folders.setdefault(bench, {})[seed] = [node.folder]
        if scores:
            folders.setdefault("average", {})[seed] = [node.folder for node in scores.values()]
    if model.bpc:
        folders["BPC"] = {seed: [node.folder] for seed, node in model.bpc.items()}
    return folders


def pack(text: str) -> str:
    """Return text as gzip in base64: a fifth of the size, and nothing in it can close its HTML element."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
