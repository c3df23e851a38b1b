"""Which examples are trained on when, and which validate."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from micota.errors import ConfigError
from micota.records import Example

MOST_SEEN = 1_000_000_000  # examples of all steps of a run, repeated ones too, whose order is in memory


def question_of(example: Example) -> str:
    """What a user writes in an example, for comparison: without system prompts, earlier answers and white space."""
    turns = [turn["content"] for turn in example.messages if turn["role"] == "user"]
    return "\n".join(" ".join(turn.split()) for turn in turns)


def problems_of(examples: Sequence[Example]) -> list[int]:
    """The problem of each example, by the first example of it. Examples of one id or of one question are of one
    problem: rows may have an id for each sample."""
    first: dict[tuple[str, str], int] = {}
    parents = list(range(len(examples)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    for index, example in enumerate(examples):
        for key in (("id", example.problem_id), ("question", question_of(example))):
            other = root(first.setdefault(key, index))
            mine = root(index)
            parents[max(mine, other)] = min(mine, other)
    return [root(index) for index in range(len(examples))]


def split(problems: Sequence[Hashable], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the training and of the validation examples.

    Problems are divided, not examples: other samples of a problem that is trained on would not show whether the model
    generalises.

    Args:
        problems: the problem of each example, as of :func:`problems_of`.
        fraction: the share of problems for validation.

    Raises:
        ConfigError: one of them would be empty.
    """
    if fraction == 0:
        return list(range(len(problems))), []
    distinct = list(dict.fromkeys(problems))
    count = round(len(distinct) * fraction)
    if not 0 < count < len(distinct):
        raise ConfigError(
            f"sft.validation_fraction={fraction:g} keeps {count} of {len(distinct)} problems for validation; "
            "accepted: a share that keeps at least one problem on either side"
        )
    # A separate random stream, so that the split and the order of training do not depend on each other.
    order = np.random.default_rng([seed, 1]).permutation(len(distinct)).tolist()
    held = {distinct[index] for index in order[:count]}
    return (
        [index for index, problem in enumerate(problems) if problem not in held],
        [index for index, problem in enumerate(problems) if problem in held],
    )


def schedule(
    num_examples: int, batch_size: int, epochs: float, seed: int, max_steps: int | None = None
) -> list[list[int]]:
    """The indices of the examples of every optimiser step. Each epoch is a permutation, and ends with a short step if
    the batch size does not divide it. ``max_steps``, or a part of an epoch rounded up to steps, ends the last one.

    Raises:
        ConfigError: there are more than the memory of a machine holds.
    """
    starts = range(0, num_examples, batch_size)
    total = math.ceil(epochs * len(starts)) if max_steps is None else max_steps
    if total * min(batch_size, num_examples) > MOST_SEEN:
        raise ConfigError(
            f"{total:,} optimiser steps of {min(batch_size, num_examples):,} examples (sft.epochs={epochs:g}, "
            f"sft.max_steps={'null' if max_steps is None else max_steps}); accepted: steps that see at most "
            f"{MOST_SEEN:,} examples together"
        )
    # One generator over all epochs: each epoch has another order, and the seed fixes all of them.
    generator = np.random.default_rng(seed)
    steps: list[list[int]] = []
    while len(steps) < total:
        order = generator.permutation(num_examples).tolist()
        steps += [order[start : start + batch_size] for start in starts]
    return steps[:total]
