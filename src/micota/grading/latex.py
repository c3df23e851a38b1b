r"""Normalise answers in LaTeX to one spelling. Text is replaced by text; nothing is evaluated.

Every step is linear in the length of the text, since a completion may be any text of any length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_CHARS = 2_000  # a longer answer is compared as text alone

_SYMBOLS = {
    "−": "-",
    "–": "-",
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "÷": r"\div ",
    "π": r"\pi ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "±": r"\pm ",
    "°": r"^\circ ",
    "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "⁄": "/",
    "，": ",",
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_ROOT_SIGN = re.compile(r"√\s*(?:\{([^{}]*)\}|\(([^()]*)\)|(\d+|[a-zA-Z]))")
_SYMBOL = re.compile("[" + "".join(_SYMBOLS) + "]")

# Commands that change only the look of an answer.
_THOUSANDS_SPACE = re.compile(r"(?<=\d)(?:,\\!|\{,\}\\?!?|\\,|\\!)\s*(?=\d{3}(?!\d))")
_LOOKS = re.compile(
    r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|boldsymbol|bm|rm|bf)(?![a-zA-Z])"
    r"|\\(?:phantom|hspace|vspace)\*?\{[^{}]*\}"
    r"|\\[()\[\]](?!\d*(?:pt|em|ex)\])"
)
_SPACES = re.compile(r"(?:\\(?:[,;:!> ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z])|thinspace)|~|\s)+")
_SPELLINGS = (
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\(?:leqslant|leq)(?![a-zA-Z])"), r"\\le"),
    (re.compile(r"\\(?:geqslant|geq)(?![a-zA-Z])"), r"\\ge"),
    (re.compile(r"\\neq(?![a-zA-Z])"), r"\\ne"),
    (re.compile(r"\\(?:lbrace)(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\(?:lbrack)(?![a-zA-Z])"), "["),
    (re.compile(r"\\(?:rbrack)(?![a-zA-Z])"), "]"),
    (re.compile(r"\\(?:cdotp|ast)(?![a-zA-Z])"), r"\\cdot"),
    (re.compile(r"\\(?:varnothing|O)(?![a-zA-Z])"), r"\\emptyset"),
    (
        re.compile(
            r"\\(?:mbox|textrm|textbf|textit|textnormal|textsf|texttt|mathrm|mathbf|mathit|mathsf|hbox)\s*(?=\{)"
        ),
        r"\\text",
    ),
    (re.compile(r"\\text\s+(?=\{)"), r"\\text"),
    (re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{)"), ""),
    (re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|\^\{?\\degree\}?"), r"^\\circ"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"\\frac\s*(\\pi(?![a-zA-Z])|(?<=c )[a-zA-Z])"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\{[^{}]*\})\s*(\d|[a-zA-Z])"), r"\1{\2}"),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\sqrt\s+(?=[{\[])"), r"\\sqrt"),
    (re.compile(r"\\(begin|end)\{[bvBV]?matrix\}|\\(begin|end)\{smallmatrix\}"), r"\\\1\2{pmatrix}"),
)
_LABEL = re.compile(r"^(?:\\text\{\s*)?(?:the )?(?:final )?answer(?: is)?\s*[:=]?\s+(?=\S)", re.IGNORECASE)
NEW_ROW = "\x02"  # a matrix's ``\\\\`` in a tidied answer, which has no other control character
_ROWS = re.compile(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-zA-Z])")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_EMPTY = re.compile(r"\\text\{\s*\}|\{\}")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_GROUPING = re.compile(r"\\.|[{}]", re.DOTALL)  # ``\{`` is a brace on paper and groups nothing
_OPEN, _CLOSE = "([{", ")]}"


def tidy(answer: str) -> str:
    r"""One spelling of an answer: ASCII operators, ``\frac``, ``\text``, single spaces, no dollar signs.

    The thousands separators ``{,}`` and ``,\!`` become plain commas without a space.
    """
    text = _CONTROL.sub("", answer[: MAX_CHARS + 1])
    if not text.isascii():
        text = _ROOT_SIGN.sub(
            lambda m: r"\sqrt{" + next(group for group in m.groups() if group is not None) + "}", text
        )
        text = _SUPERSCRIPT.sub(lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
        text = unicodedata.normalize("NFKC", _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text))
    if r"\begin" in text:
        text = _ROWS.sub(NEW_ROW, text)
    text = text.replace(r"\%", "%").replace(r"\$", "").replace("$", "").replace(r"\#", "#")
    text = _LOOKS.sub("", _THOUSANDS_SPACE.sub(",", text))
    if "\\" in text:
        for pattern, spelling in _SPELLINGS:
            text = pattern.sub(spelling, text)
        text = _EMPTY.sub("", text)
    text = unwrapped(_SPACES.sub(" ", text).strip())
    label = _LABEL.match(text)
    if label:
        text = unwrapped(text[label.end() :].removesuffix("}") if label[0].startswith("\\") else text[label.end() :])
    return text


def unwrapped(text: str) -> str:
    """The text without a full stop at its end, and braces (or markdown's stars, or quotes) around all of it."""
    while True:
        if text and text[-1] in ".,;:" and not text.endswith("\\"):
            text = text[:-1].rstrip()
        elif text.startswith("{") and closing(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
        elif len(text) > 4 and text.startswith("**") and text.endswith("**"):
            text = text[2:-2].strip()
        elif len(text) > 2 and text[0] == text[-1] and text[0] in "\"'`":
            text = text[1:-1].strip()
        else:
            return text


def compact(text: str) -> str:
    r"""A tidied answer for comparison as text: no spaces, ``\text`` or braces around a single character."""
    text = re.sub(r"\s+", "", _TEXT.sub(r"\1", text))
    return re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)


def words(text: str) -> str:
    r"""A tidied answer as words: lower case, without ``\text``, quotes, brackets and articles."""
    plain = re.sub(r"\\[a-zA-Z]+|[^\w\s:./+-]", " ", _TEXT.sub(r" \1 ", text)).casefold()
    return " ".join(word.strip(".") for word in plain.split() if word not in ("the", "a", "an") or len(plain) < 4)


def is_words(text: str) -> bool:
    """Whether a tidied answer is prose: words, without a digit or anything of mathematics."""
    bare = _TEXT.sub(r" \1 ", text)
    return bool(re.search(r"[a-zA-Z]{2}", bare)) and not re.search(r"[\d\\=^_+*/<>|(){}\[\]]", bare)


def without_text(text: str) -> str:
    r"""A tidied answer without any ``\text{...}``, and without the power of a unit that follows one."""
    return re.sub(r"\\text\{[^{}]*\}(?:\s*\^\s*(?:\{\d\}|\d))?", " ", text).strip()


def closing(text: str, start: int) -> int:
    """Index of the bracket that closes the one at ``start``; -1 where there is none. Escaped braces count as such."""
    depth = 0
    for index in range(start, len(text)):
        if text[index] in _OPEN:
            depth += 1
        elif text[index] in _CLOSE:
            depth -= 1
            if depth == 0:
                return index
    return -1


def is_balanced(text: str) -> bool:
    """Whether every curly brace that groups is closed."""
    depth = 0
    for depth in _depths(text, 0):
        if depth < 0:
            return False
    return depth == 0


def is_closed(text: str, start: int) -> bool:
    """Whether the curly brace at ``start`` is closed."""
    return any(depth == 0 for depth in _depths(text, start))


def _depths(text: str, start: int) -> Iterator[int]:
    """The depth after each curly brace that groups, from ``start`` on."""
    depth = 0
    for match in _GROUPING.finditer(text, start):
        if match[0] in "{}":
            depth += 1 if match[0] == "{" else -1
            yield depth


def split_top(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators that stand inside no bracket; ``[0, 1)`` counts as a bracket too."""
    parts: list[str] = []
    depth = start = index = 0
    while index < len(text):
        character = text[index]
        match = separator.match(text, index) if depth == 0 else None
        if match and match.end() > index:
            parts.append(text[start:index])
            start = index = match.end()
            continue
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth = max(0, depth - 1)
        index += 1
    parts.append(text[start:])
    return [part.strip() for part in parts]


def boxes(completion: str) -> Iterator[tuple[int, int, int]]:
    r"""``(start, content start, end)`` of every complete, non-empty ``\boxed{...}`` or ``\fbox{...}``, in the order in
    which they close.

    One pass without copies: 100,000 nested boxes cost no more than other text.
    """
    starts = {match.end() - 1: match.start() for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", completion)}
    if not starts:
        return
    opened: list[int] = []
    first = min(starts)
    for match in _GROUPING.finditer(completion, first):  # the brace of ``\boxed{`` is a separate match
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            start = opened.pop()
            is_empty = match.start() - start < 100 and not completion[start + 1 : match.start()].strip()
            if start in starts and not is_empty:
                yield starts[start], start + 1, match.end()
