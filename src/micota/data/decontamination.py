r"""Training problems that restate a problem of a benchmark: found, told by pair, and dropped.

Overlap of text alone cannot tell a restatement from another problem on the same template: of 11,981 MATH problems 196
share 0.6 of their text or more with a benchmark problem but have other numbers or another answer. So a pair counts as
the same problem where its text is alike AND its constants (numbers, functions, Greek letters) AND its answers agree.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from micota.grading.typed import are_plainly_equal
from micota.records import Problem

SHINGLE_CHARACTERS = 6
# docs/benchmarks.md has what these find and miss. Where no constants are shared, the text has to say it alone.
MIN_CONSTANTS = 0.8
MIN_OVERLAP = 0.25
MIN_OVERLAP_WITHOUT_CONSTANTS = 0.6
MIN_OVERLAP_VARIANT = 0.6
MIN_OVERLAP_TOLD = 0.1  # of pairs whose constants and answer agree; below it they do so by chance
EXACT, RESTATED, VARIANT = "exact", "near_duplicate", "variant"
# What is dropped, by the setting select.decontaminate.
DROPPED = {"none": (), "exact": (EXACT,), "near_duplicate": (EXACT, RESTATED)}

_QUOTES_AND_DASHES = str.maketrans("‘’“”‐‑–—−", "''\"\"-----")
_FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)
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
    """A training problem and a problem of a benchmark that are alike, for people to read.

    ``rule`` is ``exact`` (the same normal form), ``restated`` (text, constants and answer agree) or ``variant`` (text
    alone agrees, or constants and answer alone), which is never dropped. ``overlap`` and ``constants`` are from 0 to 1.
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
    """All pairs that are alike, in the order of problems; of those of which text alone agrees only the nearest of each
    problem, and only where nothing else was found."""
    index = _Index([(name, problem) for name, rows in benchmarks.items() for problem in rows])
    return [match for problem in problems for match in index.matches(problem)]


def reasons(matches: Sequence[Match], decontaminate: str = "near_duplicate") -> dict[str, str]:
    """The rule by which each training problem that is to be dropped is dropped, by its id."""
    found: dict[str, str] = {}
    for rule in DROPPED[decontaminate]:
        for match in matches:
            if match.rule == rule:
                found.setdefault(match.problem_id, rule)
    return found


def normal_form(text: str) -> str:
    r"""A problem without what can differ in print: Unicode forms, case, white space, ``$``, ``\left`` and ``\right``,
    spacing commands, synonyms of LaTeX, braces around one sign, quotes, and closing punctuation."""
    text = _one_spelling(text)
    return re.sub(r"\s+", "", _CLOSING.sub("", _BRACED.sub(r"\1", text)))


def constants(text: str) -> Counter[str]:
    """The numbers, functions and Greek letters of a problem, how often each; those of figures and hints left out."""
    text = _HINT.sub(" ", _FIGURE.sub(" ", text))
    text = _one_spelling(text)
    return Counter(_CONSTANT.findall(_NUMBER_WORD.sub(lambda match: _NUMBER_WORDS[match[0]], text)))


def _one_spelling(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES_AND_DASHES).lower()
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    return text


def shingles(text: str) -> set[str]:
    """All runs of ``SHINGLE_CHARACTERS`` characters of the normal form, hints left out."""
    compact = normal_form(_HINT.sub(" ", text))
    return {compact[i : i + SHINGLE_CHARACTERS] for i in range(max(1, len(compact) - SHINGLE_CHARACTERS + 1))}


def agreement(ours: Counter[str], theirs: Counter[str]) -> float:
    """Jaccard similarity of two multisets; 1 for two empty ones."""
    return (ours & theirs).total() / (ours | theirs).total() if ours or theirs else 1.0


class _Index:
    """Which benchmark problems hold a shingle, and how telling it is.

    A shingle weighs log((n + 1) / d) where d of the n benchmark problems have it (1 where none has), so that "find the
    value of" weighs little; overlap is the weighted Dice coefficient of two sets of shingles (twice what they share, by
    the sum of both).
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
        self._weight = {shingle: math.log((len(rows) + 1) / len(found)) for shingle, found in holders.items()}
        self._unseen = math.log(len(rows) + 1)
        self._totals = np.array([self._total(found) for found in sets])

    def overlaps(self, text: str) -> NDArray[np.float64]:
        """The overlap of a text with every benchmark problem, (problems,)."""
        own = shingles(text)
        known = [shingle for shingle in sorted(own) if shingle in self._holders]  # sorted: sums do not depend on hashes
        if not known:
            return np.zeros(len(self._rows))
        numbers = [self._holders[shingle] for shingle in known]
        weights = np.repeat([self._weight[shingle] for shingle in known], [len(found) for found in numbers])
        shared = np.bincount(np.concatenate(numbers), weights=weights, minlength=len(self._rows))
        return 2 * shared / (self._totals + self._total(own))

    def _total(self, found: set[str]) -> float:
        return math.fsum(self._weight.get(shingle, self._unseen) for shingle in found)

    def matches(self, problem: Problem) -> Iterator[Match]:
        """The pairs of one problem, nearest first."""
        overlaps = self.overlaps(problem.problem)
        exact = set(self._exact.get(normal_form(problem.problem), ()))
        near = exact | set(np.flatnonzero(overlaps >= MIN_OVERLAP_TOLD).tolist())
        if not near:
            return
        own = constants(problem.problem)
        found = False
        ordered = sorted(near, key=lambda number: (-overlaps[number], number))
        for number in ordered:
            rule = EXACT if number in exact else self._rule(problem, own, number, float(overlaps[number]))
            if rule is not None:
                found = True
                yield self._match(problem, own, number, rule, float(overlaps[number]))
        if not found and overlaps[ordered[0]] >= MIN_OVERLAP_VARIANT:
            yield self._match(problem, own, ordered[0], VARIANT, float(overlaps[ordered[0]]))

    def _rule(self, problem: Problem, own: Counter[str], number: int, overlap: float) -> str | None:
        theirs = self._constants[number]
        shared = bool(own & theirs)
        enough = overlap >= (MIN_OVERLAP if shared else MIN_OVERLAP_WITHOUT_CONSTANTS)
        if not (enough or shared) or agreement(own, theirs) < MIN_CONSTANTS:
            return None
        if not are_plainly_equal(problem.answer, self._rows[number][1].answer):
            return None
        return RESTATED if enough else VARIANT

    def _match(self, problem: Problem, own: Counter[str], number: int, rule: str, overlap: float) -> Match:
        benchmark, theirs = self._rows[number]
        return Match(
            problem_id=problem.id,
            benchmark=benchmark,
            benchmark_id=theirs.id,
            rule=rule,
            overlap=round(overlap, 3),
            constants=round(agreement(own, self._constants[number]), 3),
            answer=problem.answer,
            benchmark_answer=theirs.answer,
            problem=_short(problem.problem),
            benchmark_problem=_short(theirs.problem),
        )


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
