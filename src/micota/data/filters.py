"""Filters between completions and training data: each keeps a completion, or drops it with a reason that is counted.

A new filter is one entry of ``FILTERS`` beside its function.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from micota.config import FILTERS, Filter, SelectConfig, ThinkingConfig
from micota.data.languages import languages, letters_by_language
from micota.data.prompts import UNENDED, unanswered
from micota.records import AMBIGUOUS, Completion, Verdict

Check = Callable[[Completion, Verdict], str | None]
NOT_CHECKED = Verdict(prediction=None, correct=None, reason="not checked")
TAG = re.compile(r"</?\w+>")  # English in every language
PART = 2048  # bytes that are compressed together, besides the whole
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
            return UNENDED if verdict.reason == UNENDED else "no_answer"
        if verdict.reason.startswith(AMBIGUOUS):
            return AMBIGUOUS
        return {True: None, False: "incorrect", None: "ungradable"}[verdict.correct]

    return check


def length(select: SelectConfig) -> Check:
    """Drop completions of more than ``select.max_tokens`` tokens."""
    return lambda completion, verdict: None if completion.num_tokens <= select.max_tokens else "too_long"


def loops(select: SelectConfig) -> Check:
    """Drop repetitive text, by three measures.

    The share of its n-grams that occurred before is above ``select.loop_share``: of words, or of characters without
    white space, which find a loop in a text without spaces too. Or the text is compressed too well, as one that repeats
    but for a counter: UTF-8 bytes / bytes after zlib, which Whisper (arXiv 2212.04356, section 4.5) limits too. So is
    one of whose parts of 2 KiB more than ``select.loop_share`` are: such a loop often follows on ordinary text.
    """

    def check(completion: Completion, verdict: Verdict) -> str | None:
        words, data = tuple(completion.completion.split()), completion.completion.encode(errors="replace")
        repeated = max(_repeated(words, select.loop_words), _repeated("".join(words), select.loop_characters))
        limit = select.loop_compression
        compresses = limit is not None and _compresses(data, limit, select.loop_share)
        return "loops" if compresses or repeated > select.loop_share else None

    return check


def _compresses(data: bytes, limit: float, share: float) -> bool:
    """Whether zlib makes a text, or more than ``share`` of it in parts, smaller than one in ``limit`` bytes."""

    def is_above(part: bytes) -> bool:
        return len(part) > limit * len(zlib.compress(part))

    parts = [data[start : start + PART] for start in range(0, len(data), PART)]
    return is_above(data) or sum(len(part) for part in parts if is_above(part)) > share * len(data)


def _repeated(units: tuple[str, ...] | str, size: int) -> float:
    """The share of n-grams of ``size`` units that occurred before."""
    ngrams = [units[start : start + size] for start in range(len(units) - size + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def language(select: SelectConfig) -> Check:
    """Drop text of which less than ``select.language_share`` of the letters is in ``select.language``."""

    def check(completion: Completion, verdict: Verdict) -> str | None:
        letters = letters_by_language(TAG.sub(" ", completion.completion))
        share = letters[select.language] / letters.total() if letters else 1.0
        return "other_language" if share < select.language_share else None

    return check


def unknown_language(select: SelectConfig) -> Iterator[str]:
    """Complain of a language that is not known."""
    if select.language not in languages():
        yield f"language={select.language!r}; accepted: one of {', '.join(languages())}"


def duplicates(select: SelectConfig) -> Check:
    """Drop a completion that equals an earlier sample of the same problem but for white space."""
    texts: set[tuple[str, bytes]] = set()  # with hashes: the texts of all completions may not fit into memory

    def check(completion: Completion, verdict: Verdict) -> str | None:
        text = " ".join(completion.completion.split()).encode(errors="surrogatepass")
        known = completion.problem_id, hashlib.blake2b(text, digest_size=16).digest()
        if known in texts:
            return "duplicate"
        texts.add(known)
        return None

    return check


LOOPS = ("loop_words", "loop_share", "loop_characters", "loop_compression")
FILTERS.add(Filter(name="finished", open=finished, reasons=tuple(f"not_finished_{reason}" for reason in CUT)))
FILTERS.add(
    Filter(
        name="correct",
        open=correct,
        reasons=("no_answer", UNENDED, "incorrect", "ungradable", AMBIGUOUS),
        needs_gold=True,
    )
)
FILTERS.add(Filter(name="length", open=length, reasons=("too_long",), settings=("max_tokens",)))
FILTERS.add(Filter(name="loops", open=loops, reasons=("loops",), settings=LOOPS))
FILTERS.add(Filter(name="duplicates", open=duplicates, reasons=("duplicate",)))
FILTERS.add(
    Filter(
        name="language",
        open=language,
        reasons=("other_language",),
        settings=("language", "language_share"),
        conflicts=unknown_language,
    )
)


class Filters:
    """The configured filters, in their order, for the completions of one generator with these tags of a thought."""

    def __init__(self, select: SelectConfig, thinking: ThinkingConfig | None = None) -> None:
        self._thinking = thinking or ThinkingConfig()
        self._filters = [(FILTERS[name], FILTERS[name].open(select)) for name in select.filters]

    def reason_to_drop(self, completion: Completion, verdict: Verdict | None) -> str | None:
        """Return the reason of the first filter that drops the completion; None if all keep it.

        ``verdict`` is None where there is no gold answer; filters that need one then keep the completion.
        """
        for entry, check in self._filters:
            if verdict is None and entry.needs_gold:
                continue
            why = unanswered(completion.completion, self._thinking, completion.prefilled)
            if verdict is not None and why is not None:  # a number of the thought is no answer
                verdict = replace(verdict, prediction=None, correct=None, reason=why)
            reason = check(completion, verdict or NOT_CHECKED)
            if reason is not None:
                assert reason in entry.reasons, f"filter {entry.name} has no reason {reason!r}"
                return reason
        return None


class Sampled(Protocol):
    """What choosing among the samples of a problem needs of a completion."""

    @property
    def problem_id(self) -> str: ...
    @property
    def sample(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...


SampledT = TypeVar("SampledT", bound=Sampled)


def best(rows: Sequence[SampledT], keep_sample: str, length: int | None = None) -> list[SampledT]:
    """Return per problem the shortest completion, that of median length (the shorter of two), that whose length is
    nearest to ``length`` in tokens, or all.

    The order of ``rows`` stays. Of two completions of one length the earlier sample counts as the shorter.
    """
    if keep_sample == "all":
        return list(rows)
    by_problem: dict[str, list[SampledT]] = {}
    for row in rows:
        by_problem.setdefault(row.problem_id, []).append(row)
    chosen = set()
    for samples in by_problem.values():
        samples.sort(key=lambda row: (row.num_tokens, row.sample))
        row = samples[0 if keep_sample == "shortest" else (len(samples) - 1) // 2]
        if keep_sample == "nearest":
            assert length is not None, "the configuration has checked it"
            row = min(samples, key=lambda row: abs(row.num_tokens - length))
        chosen.add((row.problem_id, row.sample))
    return [row for row in rows if (row.problem_id, row.sample) in chosen]
