"""Choosing the examples of a recipe among those that passed the filters: a number, a mixture, or matched recipes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, takewhile
from typing import Any, Protocol, TypeVar

from micota.config import SelectConfig
from micota.config.rankings import RANKINGS
from micota.errors import ArtifactError
from micota.records import ExampleScore
from micota.seeding import seed_of


class AnyExample(Protocol):
    """What choosing needs of an example; its texts may stay on the disk."""

    @property
    def problem_id(self) -> str: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def source(self) -> str: ...


ExampleT = TypeVar("ExampleT", bound=AnyExample)
Pools = Mapping[str, Sequence[ExampleT]]  # by generator


def choose(examples: Sequence[ExampleT], num_examples: int | None, seed: int) -> list[ExampleT]:
    """Return ``num_examples`` examples, all if it is None.

    The order of problems depends on the seed alone, so recipes and sizes share as many problems as they can.

    Raises:
        ArtifactError: there is no example, or there are fewer than ``num_examples``.
    """
    if num_examples is None:
        if not examples:
            raise ArtifactError(
                "no completion passed the filters, so that there is nothing to train on; accepted: fewer or other "
                "select.filters, or more problems"
            )
        return list(examples)
    if len(examples) < num_examples:
        raise ArtifactError(
            f"only {len(examples)} examples passed the filters, select.num_examples={num_examples}; lower it, "
            "or add problems (nothing is lost: completions are kept)"
        )
    return ranked(examples, seed)[:num_examples]


def ranked(examples: Sequence[ExampleT], seed: int) -> list[ExampleT]:
    """Return the examples in an order that depends on the seed and each problem id alone."""
    return sorted(examples, key=lambda example: seed_of("rank", seed, example.problem_id))


def mixture(
    parts: Pools[ExampleT], weights: Mapping[str, float], num_examples: int | None, seed: int
) -> list[ExampleT]:
    """Return examples of all parts in the proportion of ``weights``; no problem comes from two parts.

    Without ``num_examples`` the mixture is as large as the parts allow. The rarest part chooses first.
    """
    return _mixed({label: ranked(parts[label], seed) for label in weights}, weights, num_examples)


def _mixed(ranks: Pools[ExampleT], weights: Mapping[str, float], num_examples: int | None) -> list[ExampleT]:
    """See :func:`mixture`; the examples of each part are in their order."""
    ordered = {label: ranks[label] for label in sorted(weights, key=lambda label: weights[label])}
    if num_examples is None and len(ordered) == 1 and (alone := next(iter(ordered.values()))):
        return list(alone)
    if num_examples is None:
        upper = min(int(len(rows) / weights[label]) for label, rows in ordered.items())
        num_examples = bisect_left(
            range(1, upper + 1), True, key=lambda total: isinstance(_filled(ordered, weights, total), str)
        )
        if num_examples == 0:
            raise ArtifactError(
                f"no mixture of {', '.join(weights)} can be made: a part has no example; accepted: fewer or other "
                "select.filters, more problems, or other parts"
            )
    filled = _filled(ordered, weights, num_examples)
    if isinstance(filled, str):
        raise ArtifactError(f"{filled} (select.num_examples={num_examples}); lower it")
    return filled


def _filled(ordered: Pools[ExampleT], weights: Mapping[str, float], total: int) -> list[ExampleT] | str:
    """Return the mixture of this size, or a text that names the part that is too small for it."""
    chosen: list[ExampleT] = []
    taken: set[str] = set()
    *_, last = ordered
    for label, rows in ordered.items():
        share = round(total * weights[label]) if label != last else total - len(chosen)
        free = [example for example in rows if example.problem_id not in taken]
        if len(free) < share:
            return f"part {label!r} has {len(free)} problems that no other part uses, and {share} are wanted"
        chosen += free[:share]
        taken |= {example.problem_id for example in free[:share]}
    return chosen


def match(
    pools: Pools[ExampleT], compared: Mapping[str, Mapping[str, float]], select: SelectConfig, seed: int
) -> tuple[dict[str, list[ExampleT]], dict[str, Any]]:
    """Return the examples of every recipe of a comparison, and counts of the examples that matching dropped.

    Args:
        pools: what passed the filters, by generator. compared: of each recipe the weights of its generators. select:
        ``match`` is ``problems``: recipes are made of the problems that every generator solved, the same ones where
            they are of one size; or ``tokens``: recipes are cut to as many tokens as the smallest has.

    Raises:
        ArtifactError: no problem was solved by every generator, or a recipe has too few examples for
            ``num_examples``.
    """
    if select.match == "problems":
        pools, generators = _shared(pools)
    else:
        generators = {label: {"passed": len(rows)} for label, rows in pools.items()}
    ranks = {label: ranked(rows, seed) for label, rows in pools.items()}  # once, for all recipes
    recipes = {recipe: _mixed(ranks, weights, select.num_examples) for recipe, weights in compared.items()}
    max_tokens = min(num_tokens(rows) for rows in recipes.values()) if select.match == "tokens" else None
    account = {}
    for recipe, rows in recipes.items():
        if max_tokens is not None:
            recipes[recipe] = within(ranked(rows, seed), max_tokens)
        account[recipe] = {
            "weights": dict(compared[recipe]),
            "num_examples": len(recipes[recipe]),
            "num_tokens": num_tokens(recipes[recipe]),
            "lost_to_budget": len(rows) - len(recipes[recipe]),
        }
    return recipes, {"by": select.match, "budget_tokens": max_tokens, "generators": generators, "recipes": account}


def _shared(pools: Pools[ExampleT]) -> tuple[dict[str, list[ExampleT]], dict[str, dict[str, int]]]:
    """Return the examples on problems that all generators solved, and counts for each generator.

    The counts are the examples that ``passed``, those ``lost`` because another generator did not solve the problem, and
    the problems that all other generators solved and this one did not (``alone_lacks``).
    """
    solved = {label: {example.problem_id for example in rows} for label, rows in pools.items()}
    repeated = next((label for label, rows in pools.items() if len(rows) > len(solved[label])), None)
    if repeated is not None:
        raise ArtifactError(
            f"select.match=problems: {repeated} has several examples on one problem; accepted: one each, as with "
            "select.keep_sample=shortest"
        )
    common = set.intersection(*solved.values())
    if not common:
        raise ArtifactError(
            f"select.match=problems: no problem was solved by all of {', '.join(pools)}; compare fewer recipes "
            "(compare.recipes), or match by tokens"
        )
    kept = {label: [row for row in rows if row.problem_id in common] for label, rows in pools.items()}
    counts = Counter(chain.from_iterable(solved.values()))
    lacked_by_one = [identity for identity, count in counts.items() if count == len(pools) - 1]
    return kept, {
        label: {
            "passed": len(rows),
            "lost": len(rows) - len(kept[label]),
            "alone_lacks": sum(identity not in solved[label] for identity in lacked_by_one),
        }
        for label, rows in pools.items()
    }


def within(examples: Sequence[ExampleT], max_tokens: int) -> list[ExampleT]:
    """Return the longest prefix of the examples with at most ``max_tokens`` tokens in all."""
    total = 0

    def fits(example: ExampleT) -> bool:
        nonlocal total
        total += example.num_tokens
        return total <= max_tokens

    return list(takewhile(fits, examples))


def num_tokens(examples: Sequence[AnyExample]) -> int:
    """Return the number of tokens of all completions, counted with the tokenizers of their generators."""
    return sum(example.num_tokens for example in examples)


def best_candidates(
    parts: Pools[ExampleT], scores: Mapping[str, Iterable[ExampleScore]], select_by: str
) -> list[ExampleT]:
    """Return one example per problem: the completion of any generator that is least by ``select_by`` (``RANKINGS``);
    the first among equals."""
    keep_sample: dict[str, tuple[float, ExampleT]] = {}
    for label, examples in parts.items():
        for example, score in zip(examples, scores[label], strict=True):
            assert example.problem_id == score.problem_id, f"{label}: row {score.index} is about another problem"
            known, value = keep_sample.get(example.problem_id), getattr(score, RANKINGS[select_by])
            if known is None or value < known[0]:
                keep_sample[example.problem_id] = (value, example)
    return [example for _, example in keep_sample.values()]
