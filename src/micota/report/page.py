"""One self-contained page of an experiment: what came out, how sure it is, and every answer and artifact behind it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from micota.report.case_figures import GAP_CAPTION, case_figures
from micota.report.collect import BASELINE, CaseReport
from micota.report.figures import captions, figures
from micota.report.frames import exports
from micota.report.html import render
from micota.report.lineage import Steps, trace
from micota.report.read import manifest_of
from micota.report.rows import Row, ta_title
from micota.report.style import METHOD, TA_COLOUR, TEACHER_COLOUR, recipe_colours
from micota.report.table import headline, interval, mark, tally, verdict


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of a case: a recipe, the TA at a merge weight, or the teacher. ``scores`` are by seed and benchmark,
    ``bpc`` (of its data) by seed; ``row`` is None where there are no scores."""

    index: int
    label: str
    colour: str
    is_recipe: bool
    row: Row | None
    scores: Mapping[int, Mapping[str, AnyNode]]
    bpc: Mapping[int, AnyNode] = field(default_factory=dict)


def render_page(name: str, cases: Sequence[CaseReport], store: Store, seed: int, call: Call) -> str:
    """The page as HTML that loads nothing from anywhere.

    Answers are those of ``seed``, or of the first one where a case was not run with it; ``call`` is the command
    that the experiment ran with, whose settings the commands on the page repeat.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    models = [list_models(case) for case in cases]
    drawn = [figures(case.summary) for case in cases]
    overview = case_figures([case.summary for case in cases])
    payload = {
        "figures": [_plain(own) for own in drawn],
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
                "headline": headline(case.summary),
                "models": own,
                "figures": [(key, *text) for key, text in captions(case.summary).items() if key in charts],
                "exports": exports(case.summary),
            }
            for case, own, charts in zip(cases, models, drawn, strict=True)
        ],
        overview={"gap": GAP_CAPTION} if overview else {},
        method=METHOD,
        baseline=BASELINE,
        reflection=REFLECTION_WORDS,
        outcomes=[name for name in OUTCOMES if any(m.row and m.row.outcomes.get(name) for own in models for m in own)],
        provenance=manifest_of(store, next(iter(cases[0].by_seed.values())).targets()[0]),
        artifacts=store.root.name,
        version=__version__,
        payload=pack(json.dumps(payload, ensure_ascii=False)),
        plotly=pack(get_plotlyjs()),
        interval=interval,
        mark=mark,
        tally=tally,
        verdict=verdict,
    )


def _plain(drawn: Mapping[str, go.Figure]) -> dict[str, Any]:
    return {key: json.loads(figure.to_json()) for key, figure in drawn.items()}


def list_models(case: CaseReport) -> list[Model]:
    """Recipes, then the TA by merge weight, then the teacher. Recipes without scores have the BPC of their data
    alone."""
    summary, by_seed = case.summary, case.by_seed
    recipes = next(iter(by_seed.values())).recipes
    colours = recipe_colours([recipe.name for recipe in recipes])
    rows: dict[str, Row | None] = {recipe.name: None for recipe in recipes}
    rows |= {row.name: row for row in summary.recipes}
    found = [
        Model(
            index=index,
            label=name,
            colour=colours[name],
            is_recipe=True,
            row=row,
            scores={seed: made.recipes[index].scores for seed, made in by_seed.items()},
            bpc={seed: node for seed, made in by_seed.items() if (node := made.recipes[index].bpc) is not None},
        )
        for index, (name, row) in enumerate(rows.items())
    ]
    for weight, row in sorted(summary.curve.items()):
        scores = {seed: made.curve[weight] for seed, made in by_seed.items()}
        label = ta_title(weight)
        found.append(Model(index=len(found), label=label, colour=TA_COLOUR, is_recipe=False, row=row, scores=scores))
    if summary.teacher is not None:
        scores = {seed: made.teacher for seed, made in by_seed.items()}
        colour = TEACHER_COLOUR
        found.append(
            Model(index=len(found), label="teacher", colour=colour, is_recipe=False, row=summary.teacher, scores=scores)
        )
    return found


def browse(
    store: Store, cases: Sequence[CaseReport], models: Sequence[Sequence[Model]], seed: int
) -> list[dict[str, Any]]:
    """What the browser of answers shows of each case, which share the bytes there are for completions."""
    found = []
    for case, own in zip(cases, models, strict=True):
        shown = seed if seed in case.by_seed else min(case.by_seed)
        found.append(
            {
                "seed": shown,
                "models": [{"label": m.label, "colour": m.colour, "is_recipe": m.is_recipe} for m in own],
                "benchmarks": answers(store, [m.scores[shown] for m in own], MAX_COMPLETION_BYTES // len(cases)),
            }
        )
    return found


def trace_all(
    store: Store, cases: Sequence[CaseReport], models: Sequence[Sequence[Model]], call: Call
) -> dict[str, Any]:
    """The steps behind every number, and for each case and model the folders that each of its numbers is made from, by
    seed. An average is made from all benchmarks. The merges of a merge sweep come last, as if they were one model."""
    steps: Steps = {}
    roots = []
    for case, own in zip(cases, models, strict=True):
        for seed, made in case.by_seed.items():
            trace(steps, store, made.targets(), call, seed)
        merge_sweeps = {
            seed: [made.merge_sweep.folder] for seed, made in case.by_seed.items() if made.merge_sweep is not None
        }
        found = [{"label": model.label, "measures": _measures(model)} for model in own]
        roots.append(
            [*found, {"label": "merges", "measures": {"merge_sweep": merge_sweeps}}] if merge_sweeps else found
        )
    return {"steps": steps, "models": roots}


def _measures(model: Model) -> dict[str, dict[int, list[str]]]:
    found: dict[str, dict[int, list[str]]] = {}
    for seed, scores in model.scores.items():
        for bench, node in scores.items():
            found.setdefault(bench, {})[seed] = [node.folder]
        if scores:
            found.setdefault("average", {})[seed] = [node.folder for node in scores.values()]
    if model.bpc:
        found["BPC"] = {seed: [node.folder] for seed, node in model.bpc.items()}
    return found


def pack(text: str) -> str:
    """Text as gzip in base64: a fifth of the size, and nothing in it can end the element that it stands in."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
