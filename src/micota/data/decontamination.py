r"""Decontamination: training problems that are near-duplicates of benchmark problems are listed by pair and dropped.

Overlap of text alone does not separate a near-duplicate from another problem on the same template: of 11,981 MATH
problems 196 share 0.6 of their text or more with a benchmark problem but have other numbers or another answer. So a
pair counts as the same problem if its text is alike AND its constants (numbers, functions, Greek letters) AND its
answers agree.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micota.grading.equality.compare import are_plainly_equal
from micota.records import Problem

SHINGLE_CHARACTERS = 6
# docs/benchmarks.md gives precision and recall of these thresholds. Without shared constants the text must decide
# alone, so its threshold is higher.
MIN_CONSTANTS = 0.8
MIN_OVERLAP = 0.25
MIN_OVERLAP_WITHOUT_CONSTANTS = 0.6
MIN_OVERLAP_SIMILAR = 0.6
MIN_OVERLAP_BY_CONSTANTS = 0.1  # for pairs whose constants and answer agree; below it they agree by chance
EXACT, NEAR_DUPLICATE, SIMILAR = "exact", "near_duplicate", "similar"
# The rules that drop a problem, by the setting select.decontaminate.
DROPPED = {"none": (), "exact": (EXACT,), "near_duplicate": (EXACT, NEAR_DUPLICATE)}

_QUOTES_AND_DASHES = str.maketrans("‘’“”‐‑–—−", "''\"\"-----")
_FIGURE, _END_OF_FIGURE = "[asy]", "[/asy]"
_SPACES = re.compile(r"\s+")
_HINT = re.compile(  # a sentence on the form of the answer
    r"(?:(?<=[.?!$\])])\s*|^|\n)\(?(?:please\s+)?(?:express|write|give|enter|round|leave|simplify)\s+(?:your|the|all)\s+"
    r"(?:final\s+|simplified\s+)?(?:answers?|letter)\b(?:[^.?!]|\.(?=\d))*(?:[.?!]+[)$]*|$)",
    re.IGNORECASE,
)
_SPELLINGS = [
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!|,)(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\\$|\$|\\[\[\]()]|\\(?:left|right|displaystyle|limits|big|bigg|quad|qquad)(?![a-z])|&|~"), " "),
    (re.compile(r"\\(?:[,;:!]| )|\\\n"), " "),
    (re.compile(r"\\(?:text|mbox|mathrm|operatorname|textbf|mathbf|textit)(?![a-z])"), ""),
    (re.compile(r"\\[dt](frac|binom)(?![a-z])"), r"\\\1"),
    (re.compile(r"\\(frac|binom)\s*(\d)"), r"\\\1{\2}"),
    (re.compile(r"\\(?:[cl]?dots|dots[bmcio])(?![a-z])|\.\.\."), "…"),
    (re.compile(r"\\leq(?:slant)?(?![a-z])|≤"), r"\\le"),
    (re.compile(r"\\geq(?:slant)?(?![a-z])|≥"), r"\\ge"),
    (re.compile(r"\\neq(?![a-z])|≠"), r"\\ne"),
    (re.compile(r"\\times(?![a-z])|×"), r"\\cdot"),
    (re.compile(r"\\degree(?![a-z])|\^?°|\^\s*\{?\s*\\circ\s*\}?"), "°"),
]
_CLOSING = re.compile(r"[.;:?!'\"`]+(?=[\s,]|$)|['\"`]+|(?<!\d)\s*,|,(?!\s*\d)")
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2
    )
}
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_NUMBER_WORDS)})\b")
_BRACED = re.compile(r"\{\s*(\w|\\[a-z]+)\s*\}")
_CONSTANT = re.compile(
    r"\d+(?:\.\d+)?|\\(?:arc(?:sin|cos|tan)|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|infty|sum|prod|int|lim|max|min|"
    r"gcd|lcm|det|binom|alpha|beta|gamma|delta|epsilon|theta|lambda|mu|rho|sigma|phi|psi|omega)(?![a-z])"
)


@dataclass(frozen=True, kw_only=True)
class Match:
    """A training problem and a benchmark problem that are alike, for people to read.

    ``rule`` is ``exact`` (the same normal form), ``near_duplicate`` (text, constants and answer agree) or ``similar``
    (only the text agrees, or only constants and answer). ``similar`` pairs are never dropped. ``overlap`` and
    ``constants`` are from 0 to 1.
    """

    problem_id: str
    benchmark: str
    benchmark_id: str
    rule: str
    overlap: float
    constants: float
    answer: str
    benchmark_answer: str
    problem: str
    benchmark_problem: str


def find_matches(problems: Sequence[Problem], benchmarks: Mapping[str, Sequence[Problem]]) -> list[Match]:
    """Return all pairs that are alike, in the order of ``problems``.

    A pair of which only the text agrees is listed if its problem has no other pair; only the nearest one is listed.
    """
    matches = matcher(benchmarks)
    return [match for problem in problems for match in matches(problem)]


def matcher(benchmarks: Mapping[str, Sequence[Problem]]) -> Callable[[Problem], Iterator[Match]]:
    """Return the function that yields the pairs of one problem, for problems that are read one at a time."""
    return _Index([(name, problem) for name, rows in benchmarks.items() for problem in rows]).matches


def reasons(matches: Sequence[Match], decontaminate: str = "near_duplicate") -> dict[str, str]:
    """Return the rule that drops each training problem, by problem id; kept problems are absent."""
    rules: dict[str, str] = {}
    for rule in DROPPED[decontaminate]:
        for match in matches:
            if match.rule == rule:
                rules.setdefault(match.problem_id, rule)
    return rules


def normal_form(text: str) -> str:
    r"""Return a problem without differences of typesetting: Unicode forms, case, white space, ``$``, ``\left`` and
    ``\right``, spacing commands, synonyms of LaTeX, braces around one sign, quotes, and closing punctuation."""
    text = _one_spelling(text)
    return re.sub(r"\s+", "", _CLOSING.sub("", _BRACED.sub(r"\1", text)))


def constants(text: str) -> Counter[str]:
    """Count the numbers, functions and Greek letters of a problem, without those in figures and hints."""
    text = _HINT.sub(" ", _without_figures(text))
    text = _one_spelling(text)
    return Counter(_CONSTANT.findall(_NUMBER_WORD.sub(lambda match: _NUMBER_WORDS[match[0]], text)))


def _without_figures(text: str) -> str:
    """A problem without its drawings. By search, since an expression looks for the end of each ``[asy]`` anew: that is
    quadratic in a text that repeats it without an end."""
    parts: list[str] = []
    position = 0
    while (start := text.find(_FIGURE, position)) >= 0:
        end = text.find(_END_OF_FIGURE, start)
        if end < 0:
            break
        parts += [text[position:start], " "]
        position = end + len(_END_OF_FIGURE)
    return "".join([*parts, text[position:]])


def _one_spelling(text: str) -> str:
    # One space for each run of them: expressions with several optional spaces are quadratic in its length.
    text = _SPACES.sub(" ", text)
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES_AND_DASHES).lower()
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text


def shingles(text: str) -> set[str]:
    """Return all runs of ``SHINGLE_CHARACTERS`` characters of the normal form, without hints."""
    compact = normal_form(_HINT.sub(" ", text))
    return {compact[i : i + SHINGLE_CHARACTERS] for i in range(max(1, len(compact) - SHINGLE_CHARACTERS + 1))}


def agreement(first: Counter[str], second: Counter[str]) -> float:
    """Return the Jaccard similarity of two multisets, |first & second| / |first | second|; 1 for two empty ones."""
    return (first & second).total() / (first | second).total() if first or second else 1.0


class _Index:
    """The benchmark problems that contain each shingle, and the weight of each shingle.

    A shingle that d of the n benchmark problems contain weighs log((n + 1) / d), with d = 1 if none contains it. So
    "find the value of" weighs little. The overlap is the weighted Dice coefficient of two sets of shingles:
    2 w(A & B) / (w(A) + w(B)).
    """

    def __init__(self, rows: Sequence[tuple[str, Problem]]) -> None:
        self._rows = rows
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._constants = [constants(problem.problem) for _, problem in rows]
        holders: dict[str, list[int]] = defaultdict(list)
        sets = [shingles(problem.problem) for _, problem in rows]
        for number, (_, problem) in enumerate(rows):
            self._exact[normal_form(problem.problem)].append(number)
            for shingle in sets[number]:
                holders[shingle].append(number)
        self._holders = {shingle: np.array(numbers, dtype=np.int32) for shingle, numbers in holders.items()}
        self._weight = {shingle: math.log((len(rows) + 1) / len(numbers)) for shingle, numbers in holders.items()}
        self._unseen = math.log(len(rows) + 1)
        self._totals = np.array([self._total(shingles_of_row) for shingles_of_row in sets])

    def overlaps(self, text: str) -> NDArray[np.float64]:
        """Return the overlap of a text with every benchmark problem, shape [problems]."""
        shingles_of_text = shingles(text)
        # Sorted, so that sums do not depend on hashes.
        known = [shingle for shingle in sorted(shingles_of_text) if shingle in self._holders]
        if not known:
            return np.zeros(len(self._rows))
        numbers = [self._holders[shingle] for shingle in known]
        weights = np.repeat([self._weight[shingle] for shingle in known], [len(rows) for rows in numbers])
        shared = np.bincount(np.concatenate(numbers), weights=weights, minlength=len(self._rows))
        return 2 * shared / (self._totals + self._total(shingles_of_text))

    def _total(self, shingles: set[str]) -> float:
        return math.fsum(self._weight.get(shingle, self._unseen) for shingle in shingles)

    def matches(self, problem: Problem) -> Iterator[Match]:
        """Yield the pairs of one problem, nearest first."""
        overlaps = self.overlaps(problem.problem)
        exact = set(self._exact.get(normal_form(problem.problem), ()))
        near = exact | set(np.flatnonzero(overlaps >= MIN_OVERLAP_BY_CONSTANTS).tolist())
        if not near:
            return
        problem_constants = constants(problem.problem)
        has_match = False
        ordered = sorted(near, key=lambda number: (-overlaps[number], number))
        for number in ordered:
            overlap = float(overlaps[number])
            rule = EXACT if number in exact else self._rule(problem, problem_constants, number, overlap)
            if rule is not None:
                has_match = True
                yield self._match(problem, problem_constants, number, rule, overlap)
        if not has_match and overlaps[ordered[0]] >= MIN_OVERLAP_SIMILAR:
            yield self._match(problem, problem_constants, ordered[0], SIMILAR, float(overlaps[ordered[0]]))

    def _rule(self, problem: Problem, problem_constants: Counter[str], number: int, overlap: float) -> str | None:
        benchmark_constants = self._constants[number]
        shared = bool(problem_constants & benchmark_constants)
        enough = overlap >= (MIN_OVERLAP if shared else MIN_OVERLAP_WITHOUT_CONSTANTS)
        if not (enough or shared) or agreement(problem_constants, benchmark_constants) < MIN_CONSTANTS:
            return None
        if not are_plainly_equal(problem.answer, self._rows[number][1].answer):
            return None
        return NEAR_DUPLICATE if enough else SIMILAR

    def _match(
        self, problem: Problem, problem_constants: Counter[str], number: int, rule: str, overlap: float
    ) -> Match:
        benchmark, benchmark_problem = self._rows[number]
        return Match(
            problem_id=problem.id,
            benchmark=benchmark,
            benchmark_id=benchmark_problem.id,
            rule=rule,
            overlap=round(overlap, 3),
            constants=round(agreement(problem_constants, self._constants[number]), 3),
            answer=problem.answer,
            benchmark_answer=benchmark_problem.answer,
            problem=_short(problem.problem),
            benchmark_problem=_short(benchmark_problem.problem),
        )


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
