"""Stored answers, cut at token budgets and graded again: accuracy against the tokens that a model may spend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from micota.artifacts.row_files import chunks
from micota.grading.graders import Submission, graders_of
from micota.graph import ScoresSpec
from micota.records import Completion, Problem, Score
from micota.runtime.work import Work

Key = tuple[str, int]  # problem and sample


def at_budgets(
    work: Work[ScoresSpec], rows: Iterable[Completion], scores: Sequence[Score], problems: Mapping[str, Problem]
) -> list[Score]:
    """Return the scores with whether each answer is right if it is cut after each number of tokens.

    An answer that ends within the budget has its own verdict. The beginning of a longer one is graded like an answer
    that was cut off: only a declared answer in it counts. A problem that did not fit the context is wrong at all.

    Raises:
        ModelError: the tokenizer of the model cannot be read.
    """
    from micota.runtime.forward import open_tokenizer  # imports torch, which grading alone does not need

    tokenizer = open_tokenizer(work, work.node.inputs["completions"].inputs["model"])
    spec, right = work.node.spec, {(score.problem_id, score.sample): score.correct is True for score in scores}
    at: dict[Key, dict[str, bool]] = {key: {} for key in right}
    with graders_of(work.config.evaluation) as graders:
        for chunk in chunks(rows, lambda row: len(row.completion)):
            cut: list[tuple[Key, int, Submission]] = []
            for row in chunk:
                key = row.problem_id, row.sample
                longer = [budget for budget in spec.budgets if budget < row.num_tokens]
                at[key] = {str(budget): right[key] for budget in spec.budgets if budget not in longer}
                ends = _ends(tokenizer, row.completion) if longer else []
                for budget in longer:
                    text = row.completion[: ends[budget - 1]] if budget <= len(ends) else row.completion
                    cut.append((key, budget, Submission(problems[row.problem_id], text, is_finished=False)))
            verdicts = graders.grade([submission for _, _, submission in cut], spec.problems.paper_rule)
            for (key, budget, _), by in zip(cut, verdicts, strict=True):
                at[key][str(budget)] = by[spec.grader].correct is True
    unprompted = {str(budget): False for budget in spec.budgets}
    return [replace(score, right_at=at[score.problem_id, score.sample] or unprompted) for score in scores]


def _ends(tokenizer: Any, text: str) -> list[int]:
    """The position in the text after each of its tokens."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [int(end) for _, end in offsets]
