"""One self-contained page of a comparison: what came out, how sure it is, and every answer behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from micota import __version__
from micota.artifacts import Store, read_jsonl
from micota.graph import Comparison
from micota.records import COMPLETIONS, NOT_ASKED, Completion, Node, Score
from micota.report.collect import BASELINE, Graded, Row, Summary, load, manifest_of
from micota.report.figures import METHOD, TA_COLOUR, TEACHER_COLOUR, arm_colours, figures
from micota.report.table import interval, p_text, ta_title, tally, verdict
from micota.sources import SourceError, load_problems

MAX_PROBLEMS = 100  # of each benchmark whose answers are on the page
MAX_COMPLETION_BYTES = 5_000_000  # of all completions on the page
OUTCOMES = ("correct", "incorrect", "truncated", "no_answer", NOT_ASKED)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model on the page: an arm, the TA at a merge weight, or the teacher."""

    label: str
    colour: str
    is_arm: bool
    row: Row
    scores: Mapping[str, Node]


def render_page(summary: Summary, store: Store, comparison: Comparison, seed: int) -> str:
    """The page as HTML that loads nothing from anywhere. ``comparison`` is that of ``seed``, whose answers it shows.

    Raises:
        ArtifactError: an artifact is missing or damaged.
    """
    models = list_models(summary, comparison)
    graded = [load(store, model.scores) for model in models]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(interval=interval, tally=tally, verdict=verdict)
    return environment.from_string(_asset("page.html")).render(
        summary=summary,
        headline=headline(summary),
        method=METHOD,
        baseline=BASELINE,
        models=models,
        outcomes=[name for name in OUTCOMES if name != NOT_ASKED or any(m.row.outcomes.get(name) for m in models)],
        seed=seed,
        figures={name: Markup(_inert(figure.to_json())) for name, figure in figures(summary).items()},
        answers=Markup(_inert(json.dumps(answers(store, models, graded), ensure_ascii=False))),
        provenance=manifest_of(store, next(iter(models[0].scores.values()))),
        artifacts=store.root.name,
        version=__version__,
        plotly=Markup(get_plotlyjs()),
        style=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
    )


def list_models(summary: Summary, comparison: Comparison) -> list[Model]:
    """Arms, then the TA by merge weight, then the teacher."""
    colours = arm_colours([row.name for row in summary.arms])
    arms = [
        Model(label=row.name, colour=colours[row.name], is_arm=True, row=row, scores=arm.scores)
        for row, arm in zip(summary.arms, comparison.arms, strict=True)
    ]
    assistants = [
        Model(
            label=ta_title(weight),
            colour=TA_COLOUR,
            is_arm=False,
            row=summary.curve[weight],
            scores=comparison.curve[weight],
        )
        for weight in sorted(summary.curve)
    ]
    teachers = [
        Model(label="teacher", colour=TEACHER_COLOUR, is_arm=False, row=row, scores=comparison.teacher)
        for row in [summary.teacher]
        if row is not None
    ]
    return [*arms, *assistants, *teachers]


def headline(summary: Summary) -> str:
    """One sentence: the best arm, and whether it is better than the untouched student."""
    best = max(summary.arms, key=lambda arm: arm.average.value)
    result = f"{100 * best.average.value:.1f} % on average with {best.num_tokens:.0f} tokens an answer"
    if best.name == BASELINE and len(summary.arms) > 1:
        return f"No arm is better than the untouched student ({BASELINE}), which is right in {result}."
    sentence = f"Of {len(summary.arms)} arms, {best.name} is the most accurate: {result}"
    difference = best.difference
    if difference is None:
        return f"{sentence}."
    size = f"{100 * difference.value:.1f} points [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"
    above = f"{sentence}, {size} above the untouched student ({BASELINE})"
    if not difference.is_distinguishable:
        return f"{above}; the two cannot be distinguished (p = {difference.p_value:.2f})."
    return f"{above}; the two are distinguishable (p {p_text(difference.p_value)})."


def answers(store: Store, models: Sequence[Model], graded: Sequence[Graded]) -> dict[str, Any]:
    """What the browser of answers shows: the first sample of every model for the first problems of each benchmark.

    An answer is a list of outcome, prediction, tokens and completion, in the order of the models.
    """
    benchmarks = {bench: _problems(store, bench, models, graded) for bench in graded[0]}
    shown = _fitting(list(benchmarks.values()))
    return {
        "models": [{"label": model.label, "colour": model.colour, "is_arm": model.is_arm} for model in models],
        "benchmarks": [
            {
                "name": bench,
                "total": len({score.problem_id for score in graded[0][bench]}),
                "problems": problems[:shown],
            }
            for bench, problems in benchmarks.items()
        ],
    }


def _problems(store: Store, bench: str, models: Sequence[Model], graded: Sequence[Graded]) -> list[dict[str, Any]]:
    """At most ``MAX_PROBLEMS`` of a benchmark with the answers of all models."""
    ids = list(dict.fromkeys(score.problem_id for score in graded[0][bench]))[:MAX_PROBLEMS]
    texts = _texts(models[0].scores[bench])
    written = [_completions(store, model.scores[bench], set(ids)) for model in models]
    scores = [{score.problem_id: score for score in rows[bench] if score.sample == 0} for rows in graded]
    return [
        {
            "id": identity,
            "problem": texts.get(identity),
            "gold": scores[0][identity].answer,
            "answers": [
                _answer(score.get(identity), completion.get(identity))
                for score, completion in zip(scores, written, strict=True)
            ],
        }
        for identity in ids
    ]


def _answer(score: Score | None, completion: str | None) -> list[Any] | None:
    """None where this model was never asked, because the problem is longer than its context."""
    return [score.outcome, score.prediction, score.num_tokens, completion] if score else None


def _texts(node: Node) -> dict[str, str]:
    """The text of each problem by id; empty where the source cannot be reached now (hub data sets, offline).

    A report of finished runs needs no network, so a text that cannot be had is no reason to fail.
    """
    try:
        return {problem.id: problem.problem for problem in load_problems(node.spec.problems)}
    except (OSError, SourceError):
        return {}


def _completions(store: Store, node: Node, ids: set[str]) -> dict[str, str]:
    """What a model wrote for some problems (first samples); empty where the raw completions have been deleted."""
    source = node.inputs["completions"]
    if store.manifest(source) is None:
        return {}
    rows = read_jsonl(store.path(source) / COMPLETIONS, Completion)
    return {row.problem_id: row.completion for row in rows if row.sample == 0 and row.problem_id in ids}


def _fitting(benchmarks: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """How many problems of each benchmark fit below ``MAX_COMPLETION_BYTES``, at least one."""
    size = 0
    longest = max(len(problems) for problems in benchmarks)
    for count in range(longest):
        rows = [problems[count] for problems in benchmarks if count < len(problems)]
        size += sum(len(answer[3].encode()) for row in rows for answer in row["answers"] if answer and answer[3])
        if size > MAX_COMPLETION_BYTES:
            return max(1, count)
    return longest


def _inert(text: str) -> str:
    """JSON that cannot end the script element it stands in, whatever a model wrote."""
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return resources.files("micota.report").joinpath(name).read_text(encoding="utf-8")
