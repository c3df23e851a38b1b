"""Equal answers to one problem as one group, by the grader's own equality: what maj@k counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from micota.grading import paper_rule
from micota.grading.graders import Graders
from micota.records import AMBIGUOUS, Problem, Score

RIGHT = 0  # the group of answers that equal the gold


def grouped(
    scores: Sequence[Score], problems: Mapping[str, Problem], graders: Graders, rule: str = "hendrycks"
) -> list[Score]:
    """Return the scores with the group of each answer, where problems have several samples.

    Right answers equal the gold, so they are one group. The others are compared with each other: each with the first
    of every group, as if that were the gold (equality is transitive except for tolerances). ``paper_rule`` compares by
    its rule; answers that a judge has scored are compared as by ``typed``.
    """
    if max((score.sample for score in scores), default=0) == 0:
        return list(scores)
    open_texts: dict[str, list[str]] = defaultdict(list)
    for score in scores:
        if _needs_group(score) and str(score.prediction) not in open_texts[score.problem_id]:
            open_texts[score.problem_id].append(str(score.prediction))
    groups: dict[tuple[str, str], int] = {}
    number = RIGHT
    while any(open_texts.values()):
        number += 1
        firsts = {identity: texts.pop(0) for identity, texts in open_texts.items() if texts}
        groups |= dict.fromkeys(firsts.items(), number)
        pairs = [(identity, first, text) for identity, first in firsts.items() for text in open_texts[identity]]
        for (identity, _, text), is_equal in zip(pairs, _equal(pairs, problems, graders, scores, rule), strict=True):
            if is_equal:
                groups[identity, text] = number
                open_texts[identity].remove(text)
    return [
        replace(score, group=RIGHT)
        if score.correct is True
        else replace(score, group=groups[score.problem_id, str(score.prediction)])
        if _needs_group(score)
        else score
        for score in scores
    ]


def _needs_group(score: Score) -> bool:
    return score.correct is not True and score.prediction is not None and score.outcome != AMBIGUOUS


def _equal(
    pairs: Sequence[tuple[str, str, str]],
    problems: Mapping[str, Problem],
    graders: Graders,
    scores: Sequence[Score],
    rule: str,
) -> list[bool]:
    """Whether the two answers of each pair are equal."""
    if scores[0].grader == "paper_rule":
        return [paper_rule.is_correct(text, first, rule) for _, first, text in pairs]
    golds = [replace(problems[identity], answer=first) for identity, first, _ in pairs]
    verdicts = graders.typed([(gold, text) for gold, (_, _, text) in zip(golds, pairs, strict=True)])
    return [verdict.correct is True for verdict in verdicts]
