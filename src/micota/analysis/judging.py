r"""The evaluation of Mix Distillation's authors in its steps, from the verdicts that scores hold.

Their summary script (arXiv 2502.12143, published code) looks for a box in the answer, compares it by the string rule
(``paper_rule``), and sends the boxes that the rule rejects to a judge, whose "True" counts as right and whose undecided
reply as wrong. GSM8K has the rule alone. Here the judge sees what the typed grader extracts, mostly the same box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from micota.records import Score

RULE, JUDGE, TYPED = "paper_rule", "judge", "typed"


@dataclass(frozen=True, kw_only=True)
class JudgeSteps:
    """Answers of one model to one benchmark, counted at each step.

    Of ``num_answers``, ``num_boxed`` have a box (in GSM8K a number). Of these the rule accepts ``num_by_rule`` and the
    judge sees the rest: it accepts ``num_by_judge`` and leaves ``num_undecided``.
    """

    num_answers: int
    num_boxed: int
    num_by_rule: int
    num_by_judge: int
    num_undecided: int

    @property
    def by_rule(self) -> float:
        """The share that the rule accepts."""
        return self.num_by_rule / self.num_answers

    @property
    def total(self) -> float:
        """The share that the rule or the judge accepts: the score of the authors."""
        return (self.num_by_rule + self.num_by_judge) / self.num_answers


def is_judged(scores: Sequence[Score]) -> bool:
    """Whether a judge graded these answers."""
    return any(JUDGE in score.graders for score in scores)


def accepted(score: Score, *, rule_alone: bool) -> bool:
    """Whether the authors' pipeline counts an answer as right; ``rule_alone`` leaves out the judge."""
    by_rule = score.graders.get(RULE)
    if rule_alone or by_rule is not False:  # None: there is no box, and the judge is not asked
        return by_rule is True
    return score.graders.get(JUDGE) is True


def judge_steps(scores: Sequence[Score], *, rule_alone: bool) -> JudgeSteps:
    """Count the answers at each step."""
    rejected = [] if rule_alone else [score for score in scores if score.graders.get(RULE) is False]
    return JudgeSteps(
        num_answers=len(scores),
        num_boxed=sum(score.graders.get(RULE) is not None for score in scores),
        num_by_rule=sum(score.graders.get(RULE) is True for score in scores),
        num_by_judge=sum(score.graders.get(JUDGE) is True for score in rejected),
        num_undecided=sum(score.graders.get(JUDGE) is None for score in rejected),
    )
