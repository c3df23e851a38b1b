"""Symbolic equality of two expressions by Math-Verify. Runs in worker processes only: it may never end.

Math-Verify parses LaTeX with a grammar; no part of an answer is evaluated as code. Its time limits are off, since they
rely on signals and do not limit memory. The pool kills the worker instead.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from micota.grading.gold import is_balanced

_DECIMAL = re.compile(r"(?<!\d)(\d*)\.(\d+)")
MAX_CHARS = 400
_HUGE = re.compile(
    r"\^\s*(?:[{(]\s*)*\w+\s*\^\s*(?:[{(]\s*)*\w+\s*\^"  # three powers on top of each other
    r"|\^\s*\{?\s*\d{5}|\d{4}\s*!|!\s*\)*\s*!|\d{101}|[{(\[]{12}"
)


def is_worth_trying(text: str) -> bool:
    """Whether an expression is small and complete enough for symbolic comparison: no tower of powers, no open brace,
    no long text."""
    return len(text) <= MAX_CHARS and text.isprintable() and is_balanced(text) and not _HUGE.search(text)


def warm_up() -> None:
    """Import what comparisons need, and parse once, so that the time limit of the first answer does not include it."""
    logging.disable(logging.CRITICAL)
    equivalent(r"\frac{1}{2}", "x", None)


def equivalent(gold: str, prediction: str, tolerance: Fraction | None) -> bool | None:
    """Whether two tidied expressions are equal (the gold comes first: the comparison is not symmetric); None where one
    of them cannot be read as mathematics."""
    from math_verify import verify

    if not is_worth_trying(gold) or not is_worth_trying(prediction):
        return None
    expected, actual = _parsed(gold), _parsed(prediction)
    if not expected or not actual:
        return None
    if tolerance is not None:
        return _within(expected[0], actual[0], tolerance)
    return bool(verify(list(expected), list(actual), timeout_seconds=None, allow_set_relation_comp=True))


def is_readable(text: str) -> bool:
    """Whether an expression can be read as mathematics."""
    return is_worth_trying(text) and bool(_parsed(text))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[Any, ...]:
    """The parsed expressions of a text; empty where it cannot be read."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # Units are gone by now; Math-Verify would take the variable of ``\sin^2 t`` for tons.
    spelling = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    latex = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=spelling)
    # Fractions keep decimals exact. Floats would be compared to six digits, and 3.141593 would equal pi.
    text = _DECIMAL.sub(lambda m: rf"\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}}", text)
    parsed = parse(f"${text}$", extraction_config=[latex], parsing_timeout=None, fallback_mode="no_fallback")
    return tuple(expression for expression in parsed if not isinstance(expression, str))


def _within(gold: Any, prediction: Any, tolerance: Fraction) -> bool | None:
    from sympy import N

    try:
        return bool(abs(complex(N(gold)) - complex(N(prediction))) <= float(tolerance))
    except TypeError:
        return None
