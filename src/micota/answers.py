r"""Extract answers from completions and compare them with the gold. No model output is ever evaluated as code."""

from __future__ import annotations

import re
from fractions import Fraction

_COMMANDS = re.compile(r"\\(?:left|right|!|,|;|:| )|\\(?:text|mbox|mathrm)\s*(?=\{)")
_NUMBER = re.compile(r"([+-]?)(?:(\d+)|\\[dt]?frac\{([+-]?\d+)\}\{(\d+)\}|([+-]?\d+)/(\d+)|(\d*)\.(\d+))")


def extract_boxed(completion: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}`` with balanced braces, or None where there is none."""
    for match in reversed(list(re.finditer(r"\\boxed\s*\{", completion))):
        depth = 1
        for index in range(match.end(), len(completion)):
            depth += {"{": 1, "}": -1}.get(completion[index], 0)
            if depth == 0:
                return completion[match.end() : index].strip() or None
    return None


def is_correct(prediction: str, answer: str) -> bool:
    """Whether two answers are the same exact number, or the same text once LaTeX spacing is taken away."""
    ours, gold = normalise(prediction), normalise(answer)
    if ours == gold:
        return True
    left, right = number(ours), number(gold)
    return left is not None and left == right


def normalise(answer: str) -> str:
    """The answer without dollar signs, spacing, text commands, and a closing full stop."""
    answer = _COMMANDS.sub("", answer.replace(r"\$", "").replace("$", "")).replace(" ", "").replace("\n", "")
    answer = answer.replace("{,}", ",").rstrip(".")
    if re.fullmatch(r"\{[^{}]*\}", answer):
        answer = answer[1:-1]
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", answer):
        answer = answer.replace(",", "")
    return answer


def number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal or fraction, or None for anything else."""
    match = _NUMBER.fullmatch(text)
    if not match:
        return None
    sign, whole, top, bottom, upper, lower, integral, decimals = match.groups()
    if whole is not None:
        value = Fraction(whole)
    elif decimals is not None:
        value = Fraction(int((integral or "") + decimals), 10 ** len(decimals))
    else:
        divisor = int(bottom or lower)
        if divisor == 0:
            return None
        value = Fraction(int(top or upper), divisor)
    return -value if sign == "-" else value
