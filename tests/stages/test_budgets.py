from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from synthetic_store import score

from micota.config import EvaluationConfig
from micota.records import Completion, Problem
from micota.runtime import forward
from micota.stages.budgets import at_budgets


class Letters:
    """A tokenizer with one token a character."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        return {"offset_mapping": [(index, index + 1) for index in range(len(text))]}


def completion(problem: str, text: str) -> Completion:
    return Completion(
        problem_id=problem, sample=0, prompt_hash="", completion=text, finish_reason="stop", num_prompt_tokens=1,
        num_tokens=len(text) + 1, seconds=0.1,
    )  # fmt: skip


def test_answers_are_cut_at_each_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "open_tokenizer", lambda work, node: Letters())
    early = "The answer is \\boxed{1}. Let me check: 1 * 1 = 1. Yes."
    late = "First 2, then 3, so the last number is 1. So it is \\boxed{1}"
    rows = [completion("early", early), completion("late", late)]
    spec = SimpleNamespace(budgets=[10, 30, 100], grader="typed", problems=SimpleNamespace(paper_rule="hendrycks"))
    node = SimpleNamespace(spec=spec, inputs={"completions": SimpleNamespace(inputs={"model": None})})
    work: Any = SimpleNamespace(node=node, config=SimpleNamespace(evaluation=EvaluationConfig(num_workers=1)))
    problems = {name: Problem(id=name, problem="?", answer="1") for name in ("early", "late", "unprompted")}
    scores = [score("early", 0, True), score("late", 0, True), score("unprompted", 0, False)]
    found = {one.problem_id: one.right_at for one in at_budgets(work, rows, scores, problems)}
    assert found == {
        "early": {"10": False, "30": True, "100": True},
        "late": {"10": False, "30": False, "100": True},  # a number on the way is no answer
        "unprompted": {"10": False, "30": False, "100": False},
    }
