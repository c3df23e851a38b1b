"""Filters between completions and training data: each keeps a completion, or drops it with a reason that is counted.

A new filter is one entry of ``FILTERS`` beside its function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from micota.config import FILTERS, Filter, SelectConfig
from micota.records import AMBIGUOUS, Completion, Verdict

Check = Callable[[Completion, Verdict], str | None]
NOT_CHECKED = Verdict(prediction=None, correct=None, reason="not checked")
CUT = ("length", "error")  # finish reasons of completions that have no end


def finished(select: SelectConfig) -> Check:
    """Drop completions that were cut off or failed: a target without its end teaches the student not to stop."""
    return lambda completion, verdict: (
        None if completion.finish_reason == "stop" else f"not_finished_{completion.finish_reason}"
    )


def correct(select: SelectConfig) -> Check:
    """Drop completions without an answer or with a wrong one, by the default grader of the evaluation."""

    def check(completion: Completion, verdict: Verdict) -> str | None:
        if verdict.prediction is None:
            return "no_answer"
        if verdict.reason.startswith(AMBIGUOUS):
            return AMBIGUOUS
        return {True: None, False: "incorrect", None: "ungradable"}[verdict.correct]

    return check


def length(select: SelectConfig) -> Check:
    """Drop completions of more than ``select.max_tokens`` tokens."""
    return lambda completion, verdict: None if completion.num_tokens <= select.max_tokens else "too_long"


def loops(select: SelectConfig) -> Check:
    """Drop repetitive text: the share of its word n-grams that occurred before is above ``select.loop_share``."""

    def check(completion: Completion, verdict: Verdict) -> str | None:
        words, size = completion.completion.split(), select.loop_words
        ngrams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
        return "loops" if ngrams and 1 - len(set(ngrams)) / len(ngrams) > select.loop_share else None

    return check


def duplicates(select: SelectConfig) -> Check:
    """Drop a completion that equals an earlier sample of the same problem but for white space."""
    texts: set[tuple[str, str]] = set()

    def check(completion: Completion, verdict: Verdict) -> str | None:
        text = completion.problem_id, " ".join(completion.completion.split())
        if text in texts:
            return "duplicate"
        texts.add(text)
        return None

    return check


FILTERS.add(Filter(name="finished", open=finished, reasons=tuple(f"not_finished_{reason}" for reason in CUT)))
FILTERS.add(
    Filter(name="correct", open=correct, reasons=("no_answer", "incorrect", "ungradable", AMBIGUOUS), needs_gold=True)
)
FILTERS.add(Filter(name="length", open=length, reasons=("too_long",), settings=("max_tokens",)))
FILTERS.add(Filter(name="loops", open=loops, reasons=("loops",), settings=("loop_words", "loop_share")))
FILTERS.add(Filter(name="duplicates", open=duplicates, reasons=("duplicate",)))


class Filters:
    """The configured filters, in their order, for the completions of one generator."""

    def __init__(self, select: SelectConfig) -> None:
        self._filters = [(FILTERS[name], FILTERS[name].open(select)) for name in select.filters]

    def reason_to_drop(self, completion: Completion, verdict: Verdict | None) -> str | None:
        """Return the reason of the first filter that drops the completion; None if all keep it.

        ``verdict`` is None where there is no gold answer; filters that need one then keep the completion.
        """
        for entry, check in self._filters:
            if verdict is None and entry.needs_gold:
                continue
            reason = check(completion, verdict or NOT_CHECKED)
            if reason is not None:
                assert reason in entry.reasons, f"filter {entry.name} has no reason {reason!r}"
                return reason
        return None


def best(rows: Sequence[Completion], keep_sample: str) -> list[Completion]:
    """Return per problem the shortest completion, that of median length (the shorter of two), or all.

    The order of ``rows`` stays. Of two completions of one length the earlier sample counts as the shorter.
    """
    if keep_sample == "all":
        return list(rows)
    by_problem: dict[str, list[Completion]] = {}
    for row in rows:
        by_problem.setdefault(row.problem_id, []).append(row)
    chosen = set()
    for samples in by_problem.values():
        samples.sort(key=lambda row: (row.num_tokens, row.sample))
        row = samples[0 if keep_sample == "shortest" else (len(samples) - 1) // 2]
        chosen.add((row.problem_id, row.sample))
    return [row for row in rows if (row.problem_id, row.sample) in chosen]
