"""Metrics of sampled answers beside accuracy: pass@k, maj@k, the cost of a right answer, parts of a benchmark."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from micota.analysis.intervals import Estimate
from micota.analysis.statistics import average_at_k, mean_estimate, num_samples, pass_values, problem_means
from micota.records import AMBIGUOUS, NOT_PROMPTED, Score
from micota.seeding import seed_of

ALL_SUBSETS = 2_000  # up to so many subsets of k samples of a problem, all are counted
RESAMPLES = 400  # random subsets, where there are more
Vote = tuple[int | None, bool]  # the group of equal answers (None: no answer), and whether it is right


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a right answer costs: all tokens (and seconds) of all answers by the number of right ones.

    Null where no answer is right, or seconds are not stored. Seconds are those from the start of an answer to its end;
    answers of one batch run at the same time, so they add up to more than the run took.
    """

    tokens_per_right: float | None
    seconds_per_right: float | None


def shown_ks(count: int) -> list[int]:
    """The k of pass@k and maj@k to show for that many samples: powers of 2 above 1, and all samples; none for one."""
    powers = [2**exponent for exponent in range(1, 12) if 2**exponent < count]
    return [*powers, count] if count > 1 else []


def majority_values(votes: Mapping[str, Sequence[Vote]], k: int) -> dict[str, float]:
    """Return for each problem the chance that the most frequent answer of k of its samples is right (maj@k; Wang et
    al. 2022, arXiv 2203.11171).

    Answers that the grader takes for equal are one. Samples without an answer have no vote; if no sample has one, the
    problem is wrong. Of equally frequent answers each is chosen with the same chance. The mean is over all
    subsets of k samples, or over ``RESAMPLES`` random ones (by a seed of the problem's name) if there are more than
    ``ALL_SUBSETS``.

    Raises:
        ValueError: k is not from 1 to the number of samples, or (PairingError) that number differs.
    """
    count = num_samples(votes)
    if not 1 <= k <= count:
        raise ValueError(f"maj@k with k={k} from {count} samples of each problem; accepted: k from 1 to {count}")
    return {name: _majority(name, rows, k) for name, rows in votes.items()}


def _majority(name: str, votes: Sequence[Vote], k: int) -> float:
    """The chance of one problem."""
    labels = sorted({group for group, _ in votes if group is not None})
    if not labels:
        return 0.0
    rights = np.array([any(right for group, right in votes if group == label) for label in labels], dtype=float)
    # One row per sample and one column per answer: a subset's counts are a sum of rows.
    table = np.array([[group == label for label in labels] for group, _ in votes], dtype=np.int32)
    if math.comb(len(votes), k) <= ALL_SUBSETS:
        counts = table[np.array(list(combinations(range(len(votes)), k)))].sum(axis=1)
    else:
        generator = np.random.default_rng(seed_of("majority", name, k))
        chosen = generator.random((RESAMPLES, len(votes))).argpartition(k - 1, axis=1)[:, :k]
        counts = table[chosen].sum(axis=1)
    winners = (counts == counts.max(axis=1, keepdims=True)) & (counts.max(axis=1, keepdims=True) > 0)
    shares = winners @ rights / np.maximum(winners.sum(axis=1), 1)
    return float(shares.mean())


def votes_of(scores: Iterable[Score]) -> dict[str, list[Vote]] | None:
    """The votes of each problem's samples; None if their answers have not been grouped (scores of earlier versions)."""
    votes: dict[str, list[Vote]] = defaultdict(list)
    for score in scores:
        has_vote = score.prediction is not None and score.outcome not in (AMBIGUOUS, NOT_PROMPTED)
        if has_vote and score.group is None:
            return None
        votes[score.problem_id].append((score.group if has_vote else None, score.correct is True))
    return dict(votes)


def rights_of(scores: Iterable[Score]) -> dict[str, list[bool]]:
    """Whether each sample of each problem is right."""
    rights: dict[str, list[bool]] = defaultdict(list)
    for score in scores:
        rights[score.problem_id].append(score.correct is True)
    return dict(rights)


def pass_at(seeds: Sequence[Sequence[Score]]) -> dict[int, Estimate]:
    """pass@k of one benchmark for ``shown_ks``, averaged over seeds within each problem."""
    samples = [rights_of(scores) for scores in seeds]
    return _at([partial(pass_values, one) for one in samples], min(map(num_samples, samples)))


def majority_at(seeds: Sequence[Sequence[Score]]) -> dict[int, Estimate]:
    """maj@k of one benchmark for ``shown_ks``, averaged over seeds; empty if answers have not been grouped."""
    votes = [votes_of(scores) for scores in seeds]
    known = [one for one in votes if one is not None]
    if len(known) < len(votes):
        return {}
    return _at([partial(majority_values, one) for one in known], min(map(num_samples, known)))


def _at(seeds: Sequence[Callable[[int], dict[str, float]]], count: int) -> dict[int, Estimate]:
    """The estimate at each k from the values of the problems at each seed."""
    estimates = {}
    for k in shown_ks(count):
        values = [of_seed(k) for of_seed in seeds]
        estimates[k] = mean_estimate({name: sum(one[name] for one in values) / len(values) for name in values[0]})
    return estimates


def cost(scores: Iterable[Score]) -> Cost:
    """The cost of a right answer."""
    scores = list(scores)
    right = sum(score.correct is True for score in scores)
    seconds = [score.seconds for score in scores if score.seconds is not None]
    return Cost(
        tokens_per_right=sum(score.num_tokens for score in scores) / right if right else None,
        seconds_per_right=sum(seconds) / right if right and len(seconds) == len(scores) else None,
    )


def by_label(scores: Iterable[Score], label: str) -> dict[str, Estimate]:
    """The accuracy of each level or subject (``label`` names the field), in their order; empty if rows have none."""
    parts: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        value = getattr(score, label)
        if value is not None:
            parts[value].append(score)
    return {name: average_at_k(rights_of(parts[name])) for name in sorted(parts, key=_order)}


def budget_values(scores: Iterable[Score]) -> dict[int, dict[str, float]]:
    """By token budget, each problem's share of samples that are right when cut there; empty where not measured."""
    samples: dict[int, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        for budget, right in (score.right_at or {}).items():
            samples[int(budget)][score.problem_id].append(right)
    return {budget: problem_means(samples[budget]) for budget in sorted(samples)}


def by_budget(scores: Iterable[Score]) -> dict[int, Estimate]:
    """The accuracy of one benchmark by token budget."""
    return {budget: mean_estimate(values) for budget, values in budget_values(scores).items()}


def crossings(curve: Mapping[int, float], other: Mapping[int, float]) -> list[tuple[float, bool]]:
    """The budgets at which a curve of accuracy by tokens crosses another one, with whether it is above from there on.

    Between two measured budgets both are straight lines over the logarithm of the budget.
    """
    shared = sorted(set(curve) & set(other))
    found = []
    for left, right in pairwise(shared):
        before, after = curve[left] - other[left], curve[right] - other[right]
        if before * after < 0 or (before == 0 and after != 0 and left != shared[0]):
            share = before / (before - after)
            found.append((left * (right / left) ** share, after > 0))
    return found


def _order(name: str) -> tuple[float, str]:
    """Numbers by size (``Level 2`` before ``Level 10``), words by the alphabet."""
    digits = "".join(character for character in name if character.isdigit())
    return (float(digits) if digits else math.inf, name)


def described(scores: Sequence[Score]) -> dict[str, Any]:
    """These metrics of one benchmark as plain values, for ``scores.json``; what rows do not have is left out."""
    parts: dict[str, dict[Any, Estimate]] = {
        "pass_at": dict(pass_at([scores])),
        "majority_at": dict(majority_at([scores])),
        "by_level": dict(by_label(scores, "level")),
        "by_subject": dict(by_label(scores, "subject")),
        "by_budget": dict(by_budget(scores)),
    }
    plain = {
        name: {str(key): {"value": one.value, "low": one.low, "high": one.high} for key, one in part.items()}
        for name, part in parts.items()
        if part
    }
    counts = Counter(score.level for score in scores if score.level is not None)
    return {**plain, **({"num_by_level": dict(counts)} if counts else {}), **asdict(cost(scores))}


def flat(described: Mapping[str, Any]) -> dict[str, float]:
    """The same as metrics with names (``pass@8``, ``maj@8``, ``level/3``, ``subject/Algebra``), for trackers."""
    prefixes = {
        "pass_at": "pass@",
        "majority_at": "maj@",
        "by_level": "level/",
        "by_subject": "subject/",
        "by_budget": "budget/",
    }
    numbers = {
        f"{prefix}{key}": float(one["value"])
        for part, prefix in prefixes.items()
        for key, one in described.get(part, {}).items()
    }
    costs = ("tokens_per_right", "seconds_per_right")
    return numbers | {name: float(described[name]) for name in costs if described.get(name) is not None}
