"""Lengths of responses and their reflection words, from stored completions and scores, without a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from micota.analysis.statistics import PairingError
from micota.records import Completion, Example, Score

# MiCoTA's case study (arXiv 2507.01887) counts "wait"; Mix Distillation (2502.12143) detects long CoT by
# "alternatively".
REFLECTION_WORDS = ("wait", "but", "alternatively", "let me check")
DATA_OUTCOME = "data"  # the outcome of a training completion, which has no score


@dataclass(frozen=True, kw_only=True)
class Response:
    """One response: its length, its outcome (``Score.outcome``, or ``data``) and its count of each reflection word."""

    problem_id: str
    sample: int
    num_tokens: int
    outcome: str
    is_truncated: bool
    reflections: dict[str, int]

    @property
    def num_reflections(self) -> int:
        return sum(self.reflections.values())


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Statistics of many responses.

    They are the tokens per response (mean and quantiles), the share that hit the token limit, and of reflection words
    the mean number per response (by word and in all), the share of responses with any, and the number per 1,000 tokens.
    """

    num_responses: int
    num_tokens: float
    p10: float
    p50: float
    p90: float
    share_truncated: float
    reflections: dict[str, float]
    num_reflections: float
    share_reflecting: float
    reflections_per_1000_tokens: float


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    # Longest first, so that the longer of two words with one beginning matches; a space may match a line break.
    spelt = [r"\s+".join(map(re.escape, word.split())) for word in sorted(words, key=len, reverse=True)]
    return re.compile(rf"(?<!\w)(?:{'|'.join(spelt)})(?!\w)", re.IGNORECASE)


def reflections(text: str, words: tuple[str, ...] = REFLECTION_WORDS) -> dict[str, int]:
    """Count each word in ``text``, as a whole word and in any case."""
    counts = Counter(" ".join(match.group().lower().split()) for match in _pattern(words).finditer(text))
    return {word: counts[word] for word in words}


def reflection_spans(text: str, words: tuple[str, ...] = REFLECTION_WORDS) -> list[tuple[int, int]]:
    """Return the spans (start, end) of the words in ``text``, in order; pages mark them."""
    return [match.span() for match in _pattern(words).finditer(text)]


def responses(completions: Iterable[Completion], scores: Iterable[Score]) -> list[Response]:
    """Return the responses of one model to one benchmark, in the order of the completions.

    Raises:
        PairingError: a completion has no score.
    """
    return list(each_response(completions, scores))


def each_response(completions: Iterable[Completion], scores: Iterable[Score]) -> Iterator[Response]:
    """Yield the responses of one model to one benchmark, in the order of the completions.

    Raises:
        PairingError: a completion has no score.
    """
    outcomes = {(score.problem_id, score.sample): score.outcome for score in scores}
    for row in completions:
        outcome = outcomes.get((row.problem_id, row.sample))
        if outcome is None:
            raise PairingError(f"sample {row.sample} of problem {row.problem_id!r} has no score")
        yield Response(
            problem_id=row.problem_id,
            sample=row.sample,
            num_tokens=row.num_tokens,
            outcome=outcome,
            is_truncated=row.finish_reason == "length",
            reflections=reflections(row.completion),
        )


def data_responses(examples: Iterable[Example]) -> list[Response]:
    """Return the completions of training data as responses; ``sample`` numbers those of one problem."""
    seen: Counter[str] = Counter()
    rows = []
    for row in examples:
        rows.append(
            Response(
                problem_id=row.problem_id,
                sample=seen[row.problem_id],
                num_tokens=row.num_tokens,
                outcome=DATA_OUTCOME,
                is_truncated=False,
                reflections=reflections(row.completion),
            )
        )
        seen[row.problem_id] += 1
    return rows


def lengths(rows: Iterable[Response]) -> Lengths:
    """Return the statistics of at least one response."""
    counted: list[int] = []
    words: Counter[str] = Counter()
    num_truncated = num_reflecting = 0
    for row in rows:
        counted.append(row.num_tokens)
        words.update(row.reflections)
        num_truncated += row.is_truncated
        num_reflecting += row.num_reflections > 0
    # Quantiles beside the mean: responses that hit the token limit dominate the mean.
    tokens = np.array(counted)
    p10, p50, p90 = (float(value) for value in np.percentile(tokens, (10, 50, 90)))
    return Lengths(
        num_responses=len(counted),
        num_tokens=float(tokens.mean()),
        p10=p10,
        p50=p50,
        p90=p90,
        share_truncated=num_truncated / len(counted),
        reflections={word: count / len(counted) for word, count in words.items()},
        num_reflections=sum(words.values()) / len(counted),
        share_reflecting=num_reflecting / len(counted),
        # Over all tokens, not the mean of rates, in which a short response with one word would outweigh a long one.
        reflections_per_1000_tokens=1000 * sum(words.values()) / max(1, int(tokens.sum())),
    )


def lengths_by_outcome(rows: Sequence[Response]) -> dict[str, Lengths]:
    """Return the statistics of all responses (``all``) and of each outcome that occurs, the most frequent first."""
    by_outcome: dict[str, list[Response]] = {}
    for row in rows:
        by_outcome.setdefault(row.outcome, []).append(row)
    ordered: Mapping[str, list[Response]] = dict(sorted(by_outcome.items(), key=lambda item: -len(item[1])))
    return {"all": lengths(rows)} | {outcome: lengths(group) for outcome, group in ordered.items()}
