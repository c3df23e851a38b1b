"""A page of answers on which evaluations differ, as chats: the problem, then the answer of each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from micota import __version__
from micota.artifacts.inventory import Inventory, Item
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.scores import read_scores
from micota.artifacts.store import verified_folder
from micota.config import SourceConfig
from micota.data.sources import load_problems
from micota.errors import ArtifactError, SourceError
from micota.records import COMPLETIONS, Completion, Score
from micota.report.evaluations import Evaluation
from micota.report.html import render
from micota.visible import visible

MAX_CHATS = 60  # of each benchmark on the page
MAX_CHARS = 20_000  # of one answer; the middle of a longer one is left out


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The answer of one model: whether it is right, and by which graders."""

    model: str
    outcome: str
    prediction: str | None
    num_tokens: int
    graders: dict[str, bool | None]
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One problem with the answers of all models. ``why`` names what differs: the models, the graders, or both."""

    id: str
    problem: str | None
    gold: str
    why: str
    turns: list[Turn]


def chats_page(evaluations: Sequence[Evaluation], inventory: Inventory | None) -> str:
    """Return the page as self-contained HTML.

    Raises:
        ArtifactError: an evaluation is a file, of which no completions are stored, or scores are damaged.
    """
    for one in evaluations:
        if not one.items:
            raise ArtifactError(f"page: {one.name} is a file of scores, without completions; accepted: artifacts")
    names = list(dict.fromkeys(bench for one in evaluations for bench in one.items))
    benchmarks = []
    for bench in names:
        chats = list(_chats([one for one in evaluations if bench in one.items], bench, inventory))
        benchmarks.append({"name": bench, "total": len(chats), "chats": chats[:MAX_CHATS]})
    models = [one.name for one in evaluations]
    title = f"where {' and '.join(models)} differ" if len(models) > 1 else f"{models[0]}: where graders differ"
    return render("chats.html", title=title, benchmarks=benchmarks, version=__version__)


def _chats(evaluations: Sequence[Evaluation], bench: str, inventory: Inventory | None) -> Iterator[Chat]:
    """The problems of a benchmark on which models or graders differ, by the first sample at the first seed."""
    sides = [_first(one.items[bench][0]) for one in evaluations]
    texts = [_texts(one.items[bench][0], inventory) for one in evaluations]
    problems = _problems(evaluations[0].items[bench][0])
    for identity, first in sides[0].items():
        scores = [side.get(identity) for side in sides]
        why = [
            *(["models"] if len({score.correct is True for score in scores if score}) > 1 else []),
            *(["graders"] if any(score and len(_votes(score)) > 1 for score in scores) else []),
        ]
        if not why:
            continue
        turns = [
            _turn(one.name, score, text.get(identity))
            for one, score, text in zip(evaluations, scores, texts, strict=True)
            if score is not None
        ]
        problem = problems.get(identity)
        yield Chat(
            id=visible(identity), problem=problem and visible(problem), gold=visible(first.answer),
            why=" and ".join(why), turns=turns,
        )  # fmt: skip


def _votes(score: Score) -> set[bool]:
    return {verdict is True for verdict in score.graders.values()}


def _turn(model: str, score: Score, text: str | None) -> Turn:
    prediction = None if score.prediction is None else visible(score.prediction)
    return Turn(
        model=model,
        outcome=score.outcome,
        prediction=prediction,
        num_tokens=score.num_tokens,
        graders=score.graders if len(_votes(score)) > 1 else {},
        text=None if text is None else visible(_shortened(text)),
    )


def _shortened(text: str) -> str:
    if len(text) <= MAX_CHARS:
        return text
    half = MAX_CHARS // 2
    return f"{text[:half]}\n\n[{len(text) - 2 * half} characters left out]\n\n{text[-half:]}"


def _first(item: Item) -> dict[str, Score]:
    return {score.problem_id: score for score in read_scores(verified_folder(item.path)) if score.sample == 0}


def _texts(item: Item, inventory: Inventory | None) -> Mapping[str, str]:
    """The completions behind scores (first samples); empty if they are not stored any more."""
    assert item.manifest is not None
    key = item.manifest.inputs["completions"]["key"]
    # Scores outside the artifacts folder lie beside their completions, if these were copied too.
    made = inventory.by_key().get(key) if inventory else None
    folder = made.path if made else item.path.parent.parent / "completions" / f"{item.name}-{key}"
    if not (folder / COMPLETIONS).is_file():
        return {}
    rows = read_jsonl(verified_folder(folder) / COMPLETIONS, Completion)
    return {row.problem_id: row.completion for row in rows if row.sample == 0}


def _problems(item: Item) -> Mapping[str, str]:
    """The text of each problem; empty if the source cannot be read now (hub data sets, offline)."""
    assert item.manifest is not None
    stored: dict[str, Any] = item.manifest.config["problems"]
    known = {field.name for field in fields(SourceConfig)}
    try:
        source = SourceConfig(**{name: value for name, value in stored.items() if name in known})
        return {problem.id: problem.problem for problem in load_problems(source)}
    except (OSError, SourceError):
        return {}
