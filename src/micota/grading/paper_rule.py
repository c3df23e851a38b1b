r"""The published string rule with its faults, so that published numbers can be compared.

It is the normalisation of Hendrycks et al. 2021 (arXiv 2103.03874) with the changes of the evaluation that MiCoTA
(arXiv 2507.01887) reuses. Known faults, kept on purpose: a plain ``$`` in the gold is not stripped (266 of 675
OlympiadBench golds can never be matched), thousands separators differ, lists have an order, units and tolerances are
ignored.
"""

from __future__ import annotations

import re

_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")  # of GSM8K: the last match counts
_REMOVED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")
_PERCENT = ("\\%",)


def extract(completion: str, rule: str) -> str | None:
    """The answer that the published code extracts, or None (which it scores as wrong)."""
    if rule == "gsm8k":
        last = None
        for match in _FLEXIBLE.finditer(completion):
            last = match[0]
        return last
    return _last_box(completion)


def is_correct(prediction: str, answer: str, rule: str) -> bool:
    """Equality after the published normalisation; on an exception of it, equality of the raw strings.

    ``rule`` is ``hendrycks``; ``zeros`` which first strips leading zeros and a final ``.0`` (AIME, AMC, OlympiadBench);
    or ``gsm8k``, which handles numbers only.
    """
    if rule == "gsm8k":
        return _plain(prediction) == _plain(answer)
    if rule == "zeros":
        prediction, answer = _without_zeros(prediction), _without_zeros(answer)
    try:
        return normalise(prediction) == normalise(answer)
    except (ValueError, IndexError):
        return prediction == answer


def _last_box(completion: str) -> str | None:
    r"""``\boxed`` by counting braces; ``\boxed 5$`` up to the dollar sign; ``\fbox`` where there is no ``\boxed``."""
    if "\\boxed " in completion:
        return completion.rpartition("\\boxed ")[2].partition("$")[0]
    start = completion.rfind("\\boxed")
    if start < 0:
        start = completion.rfind("\\fbox")
    if start < 0:
        return None
    depth = 0
    opened = -1
    for index in range(start, len(completion)):
        if completion[index] == "{":
            opened = index if depth == 0 else opened
            depth += 1
        elif completion[index] == "}":
            depth -= 1
            if depth == 0 and opened >= 0:
                return completion[opened + 1 : index]
    return None


def _without_zeros(text: str) -> str:
    return text.lstrip("0").removesuffix(".0")


def _plain(text: str) -> str:
    text = text.replace(",", "").replace("$", "")
    return text.rpartition("#### ")[2].removesuffix(".").lower()


def normalise(text: str) -> str:
    """The published normalisation, in its order.

    Raises:
        ValueError, IndexError: where the published code fails, too.
    """
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for removed in _REMOVED:
        text = text.replace(removed, "")
    text = _without_unit(text)
    for removed in _PERCENT:
        text = text.replace(removed, "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    return _slash_as_fraction("\\frac{1}{2}" if text == "0.5" else text)


def _without_unit(text: str) -> str:
    if "\\text{ " not in text:
        return text
    pieces = text.split("\\text{ ")
    if len(pieces) != 2:
        raise ValueError("two units")
    return pieces[0]


def _braced_roots(text: str) -> str:
    head, *tails = text.split("\\sqrt")
    return head + "".join("\\sqrt" + (tail if tail[0] == "{" else "{" + tail[0] + "}" + tail[1:]) for tail in tails)


def _braced_fractions(text: str) -> str:
    head, *tails = text.split("\\frac")
    braced = [head]
    for tail in tails:
        if tail[0] == "{":
            braced.append("\\frac" + tail)
        elif len(tail) < 2:
            return text
        else:
            bottom = tail[1] if tail[1] == "{" else "{" + tail[1] + "}"
            braced.append("\\frac{" + tail[0] + "}" + bottom + tail[2:])
    return "".join(braced)


def _slash_as_fraction(text: str) -> str:
    pieces = text.split("/")
    if len(pieces) != 2:
        return text
    top, bottom = int(pieces[0]), int(pieces[1])  # a ValueError here makes the published code compare raw strings
    return f"\\frac{{{top}}}{{{bottom}}}" if text == f"{top}/{bottom}" else text
