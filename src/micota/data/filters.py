"""Filters from completions to training data: each keeps a completion, or drops it with a reason that is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def loops(completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
    """Drop text that goes round in circles: too many of its word n-grams occurred in it before."""
    words = completion.completion.split()
    ngrams = [tuple(words[start : start + select.loop_words]) for start in range(len(words) - select.loop_words + 1)]
    return "loops" if ngrams and 1 - len(set(ngrams)) / len(ngrams) > select.loop_share else None


def length(completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
    """Drop what is longer than ``select.max_tokens``."""
    return None if completion.num_tokens <= select.max_tokens else "too_long"


FILTERS: dict[str, Filter] = {"finished": finished, "correct": correct, "length": length, "loops": loops}


class Filters:
    """The configured filters, in their order, over the completions of one generator."""

    def __init__(self, select: SelectConfig) -> None:
        self.select = select
        self._texts: set[tuple[str, str]] = set()

    def reason_to_drop(self, completion: Completion, verdict: Verdict) -> str | None:
        """The reason of the first filter that drops the completion; None keeps it."""
        for name in self.select.filters:
            check = self._duplicates if name == "duplicates" else FILTERS[name]
            reason = check(completion, verdict, self.select)
            if reason is not None:
                return reason
        return None

    def _duplicates(self, completion: Completion, verdict: Verdict, select: SelectConfig) -> str | None:
        """Drop what says, but for white space, what an earlier sample of the same problem says."""
        text = completion.problem_id, " ".join(completion.completion.split())
        if text in self._texts:
            return "duplicate"
        self._texts.add(text)
        return None


def best(rows: Sequence[Completion], keep_sample: str) -> list[Completion]:
    """Of each problem's completions the shortest, that of median length (the shorter of two), or all. The order stays;
    of two of one length the earlier sample counts as the shorter."""
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
