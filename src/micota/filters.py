"""Filters from completions to training data: each keeps a completion, or drops it with a reason that is counted."""

from __future__ import annotations

from collections.abc import Callable

from micota.config import SelectConfig
from micota.records import Completion, Verdict

Filter = Callable[[Completion, Verdict, SelectConfig], str | None]


def finished(completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
    """Drop what was cut off or failed: a target without its end teaches not to stop."""
    return None if completion.finish_reason == "stop" else f"not_finished_{completion.finish_reason}"


def correct(completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
    """Drop what has no answer, or a wrong one, by the default grader of the evaluation."""
    if verdict.prediction is None:
        return "no_answer"
    return {True: None, False: "incorrect", None: "ungradable"}[verdict.correct]


def length(completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
    """Drop what is longer than ``select.max_tokens``."""
    return None if completion.num_tokens <= select.max_tokens else "too_long"


FILTERS: dict[str, Filter] = {"finished": finished, "correct": correct, "length": length}


def reason_to_drop(completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
    """The reason of the first filter, in the configured order, that drops the completion; None keeps it."""
    for name in select.filters:
        reason = FILTERS[name](completion, verdict, select)
        if reason is not None:
            return reason
    return None
