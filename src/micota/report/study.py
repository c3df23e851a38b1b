"""One case of an experiment in detail, for notebooks: merges, gains, tokens, and answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from micota.analysis.lengths import reflection_spans
from micota.analysis.shifts import most_shifted
from micota.artifacts.store import Store
from micota.config import Call
from micota.report.answers import answers
from micota.report.collect import CaseReport, Summary
from micota.report.lineage import Steps, trace
from micota.report.page import Model, list_models
from micota.report.rows import ta_title

SIDE_BY_SIDE = """\
<p><b>{{ number }}</b>: {{ problem.problem }}<br>answer: <b>{{ problem.gold }}</b></p>
<div style="display: flex; gap: 1em; overflow-x: auto; align-items: flex-start">
{%- for column in columns %}
<div style="min-width: 20em; max-width: 30em; text-align: left">
<b>{{ column.label }}</b><br>{{ column.outcome }}, {{ column.num_tokens }} tokens<br>
prediction: {{ column.prediction }}
<pre style="white-space: pre-wrap">
{%- for text, is_word in column.parts -%}
{% if is_word %}<mark>{{ text }}</mark>{% else %}{{ text }}{% endif %}
{%- endfor -%}
</pre></div>
{%- endfor %}
</div>
"""


def merges_frame(summary: Summary) -> pd.DataFrame:
    """Return the TA by merge weight (0: before SFT, 1: after): accuracy and 95 % interval in percent, tokens per
    answer."""
    rows = [
        {
            "model": ta_title(weight),
            "weight": weight,
            "accuracy": 100 * row.average.value,
            "low": 100 * row.average.low,
            "high": 100 * row.average.high,
            "num_tokens": row.num_tokens,
        }
        for weight, row in sorted(summary.curve.items())
    ]
    return pd.DataFrame(rows)


def points_frame(summary: Summary) -> pd.DataFrame:
    """Return the merges of a merge sweep, one per row, with their accuracy in percent."""
    rows = [asdict(point) | {"accuracy": 100 * point.num_correct / point.num_problems} for point in summary.points]
    columns = ["form", "density", "weight", "seed", "accuracy", "num_tokens", "num_truncated", "num_problems"]
    return pd.DataFrame(rows, columns=columns)


def trials_frame(summary: Summary) -> pd.DataFrame:
    """Return each recipe at each seed: the properties of its data before training, and the student's gain in points."""
    rows = [{"recipe": t.recipe, "seed": t.seed, **t.known, "gain": 100 * t.gain} for t in summary.trials]
    return pd.DataFrame(rows).drop(
        columns="tokens_per_s", errors="ignore"
    )  # the speed of the run, no property of the data


def shifts_frame(summary: Summary, recipe: str, by: str = "mean_rank", limit: int = 20) -> pd.DataFrame:
    """Return the most shifted tokens of a recipe, by mean rank before tuning (``mean_rank``) or by the share of uses
    as fourth most likely token or lower under the student before SFT (``share_shifted``).

    Raises:
        ValueError: the recipe has no token shifts.
    """
    if recipe not in summary.token_shifts:
        raise ValueError(
            f"token shifts of {recipe!r}; accepted: {', '.join(summary.token_shifts) or 'none was measured'}"
        )
    rows = most_shifted(summary.token_shifts[recipe], by, limit=limit)
    return pd.DataFrame(
        [
            {"token": row.text, "uses": row.count, "mean_rank": row.mean_rank, "share_shifted": row.share_shifted}
            for row in rows
        ]
    )


def outcomes_frame(store: Store, case: CaseReport, benchmark: str) -> pd.DataFrame:
    """Return the outcome of each model's answer to each problem of a benchmark, one row per problem, for one seed."""
    models = list_models(case)
    rows = {}
    for problem in _problems(store, case, models, benchmark):
        rows[problem["id"]] = {
            model.label: answer and answer[0] for model, answer in zip(models, problem["answers"], strict=True)
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[model.label for model in models])
    table.index.name = "problem"
    return table


def side_by_side(store: Store, case: CaseReport, benchmark: str, number: int) -> str:
    """Return the answers of all models to problem ``number`` (from 0) of a benchmark as HTML, reflection words marked.

    Raises:
        ValueError: there is no such benchmark, or no such problem among those shown.
    """
    models = list_models(case)
    problems = _problems(store, case, models, benchmark)
    if not 0 <= number < len(problems):
        raise ValueError(f"problem {number} of {benchmark}; accepted: 0 to {len(problems) - 1}")
    problem = problems[number]
    columns = [_column(model, answer) for model, answer in zip(models, problem["answers"], strict=True) if answer]
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(SIDE_BY_SIDE)
    return page.render(number=number, problem=problem, columns=columns)


def _column(model: Model, answer: Sequence[Any]) -> dict[str, Any]:
    """Return the values of one model's answer for the page."""
    outcome, prediction, num_tokens, completion = answer
    parts = [("(no longer stored)", False)] if completion is None else _parts(str(completion))
    return {
        "label": model.label,
        "outcome": outcome,
        "num_tokens": num_tokens,
        "prediction": prediction,
        "parts": parts,
    }


def _parts(text: str) -> list[tuple[str, bool]]:
    """Return the pieces of a text, each with whether it is a reflection word."""
    parts, at = [], 0
    for start, end in reflection_spans(text):
        parts += [(text[at:start], False), (text[start:end], True)]
        at = end
    return [*parts, (text[at:], False)]


def lineage_frame(store: Store, case: CaseReport, recipe: str, call: Call) -> pd.DataFrame:
    """Return all artifacts below a recipe's scores, back to the source models, with descriptions and commands.

    Raises:
        ValueError: there is no such recipe, or it has no scores.
    """
    seed = min(case.by_seed)
    models = {model.label: model for model in list_models(case)}
    if recipe not in models or not models[recipe].scores[seed]:
        raise ValueError(f"lineage of {recipe!r}; accepted: {', '.join(models)}")
    steps: Steps = {}
    trace(steps, store, models[recipe].scores[seed].values(), call, seed)
    rows = [
        {"artifact": folder, "what": step["description"], "command": step["command"]} for folder, step in steps.items()
    ]
    return pd.DataFrame(rows)


def _problems(store: Store, case: CaseReport, models: Sequence[Model], benchmark: str) -> list[dict[str, Any]]:
    """Return the first problems of a benchmark with the answers of all models, for one seed.

    Raises:
        ValueError: there is no such benchmark.
    """
    seed = min(case.by_seed)
    scores = [model.scores[seed] for model in models]
    by_benchmark: dict[str, list[dict[str, Any]]] = {
        bench["name"]: bench["problems"] for bench in answers(store, scores)
    }
    if benchmark not in by_benchmark:
        raise ValueError(f"benchmark {benchmark!r}; accepted: {', '.join(by_benchmark)}")
    return by_benchmark[benchmark]
