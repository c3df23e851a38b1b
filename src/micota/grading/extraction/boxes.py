r"""``\boxed{...}`` in a completion: which boxes hold the final answer, and what stands around them.

One pass without copies, so 100,000 nested boxes cost no more than other text.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from micota.grading.reading.parser import read, tidied
from micota.grading.reading.tokens import UnreadableError

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(
    r"\\(?:[dt]?frac|sqrt|text|mathrm)(?:\[[^\[\]{}]*\])?(?:\{[^{}]*\})+|\\[dt]?frac\s*\d\s*\d|[-+]?\d[\d.,/]*(?<![.,])|\\pi(?![a-zA-Z])|[A-Za-z](?![A-Za-z])"
)
_EMPTY = re.compile(r"(?:\s|\\[,;:! ]|\\quad|\\qquad|\\text\s*\{\s*\}|\{\s*\}|~|\.\.\.|…|\\[lc]?dots|_+|\?+)*")
_PLACEHOLDER = re.compile(
    r"(?:\\text\s*\{)?\s*(?:your|the|final|insert|fill)?[\s_]*(?:final[\s_]*)?(?:answer|result|solution)s?(?:[\s_]*here)?\s*\}?",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"(?:[\s$*.,)\]!]|\\[)\]])*(?:\?\s*)?(?:[-—]\s*)?(?:(?:but |and )?(?:that|this|it)(?:'s| is| was)?|is|was|"
    r"which is)?\s*"
    r"(?:wrong|incorrect|not (?:right|correct|it|the answer)|a mistake|an error|false|no\b[,.!]|nope\b)",
    re.IGNORECASE,
)
# Words before a box that is not the answer: "\\boxed{7}, not \\boxed{6}".
_REFUSED = re.compile(r"\b(?:not|rather than|instead of|never|isn't|instead of)\s*(?:\$+|\\[(\[])?\s*$")
_DOUBTED = re.compile(
    r"(?:[\s$*.,)\]!?]|\\[)\]])*(?:but wait|hmm,? (?:no|but|wait)|wait,? (?:no|but|that)|hold on|"
    r"but (?:I|that|this) (?:still|is not|was))\b",
    re.IGNORECASE,
)
_TURNS = re.compile(
    r"\b(?:then|so|hence|thus|therefore|wait|actually|no|not|but|instead|however|wrong|incorrect|gives?|get|becomes|mistake|"
    r"rather|correction|corrected|should|check|again|simplif\w+|equals?|now|next|finally|because|since|substitut\w+|if|first|"
    r"which|where|when|from|using|into)\b|[=≈⇒]\s*$|\\(?:implies|Rightarrow|therefore)\b|ds?o$",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"(?:,|;|&|\band\b|\bor\b|和|或|、|\((?:[a-zA-Z0-9]|[ivx]{1,4})\)|\bother\b|\bsecond\b|\banother\b|\balso\b|[a-zA-Z]\s*(?:=|\\in)\s*)"
)
_MATHS_SIGNS = re.compile(r"\$+|\\[()\[\]]|\\(?:,|;|:|!|quad|qquad|text|mathrm|mbox|textbf)(?![a-zA-Z])|[{}*\\]|\s+")
_NEW_SENTENCE = re.compile(r"[.!?。](?=\s|$|[A-Z])|\n\s*\n")
MAX_BOXES = 200  # of one answer
MAX_BETWEEN = 120  # characters between two boxes of one answer
_CUT_LEFT = re.compile(
    r"[=<>≤≥≈:,;&]|\\\\|\\(?:leq?|geq?|lt|gt|neq?|approx|sim|simeq|equiv|in|to|rightarrow|Rightarrow|Longrightarrow|implies|iff|therefore|because|"
    r"quad|qquad|colon|longrightarrow|mapsto|Leftrightarrow|so)(?![a-zA-Z])|\\(?:begin|end)\s*\{[a-zA-Z*]+\}|\\(?:text|mbox|textbf|textrm|mathrm|mathbf)\s*\{[^{}]*\}|\\(?:angle|triangle)\s*[A-Z]+"
)
_CUT_RIGHT = re.compile(
    r"[=<>≤≥≈:,;&?\n]|\\\\|\\(?:leq?|geq?|lt|gt|neq?|approx|equiv|in|to|rightarrow|Rightarrow|implies|quad|qquad|blacksquare|square|checkmark|tag|end|label|hspace|vspace|because|"
    r"pmod|bmod|mod)(?![a-zA-Z])|\.(?!\d)|!|\("
)
_RELATION = re.compile(r"\s*(?:=|\\approx|\\equiv)")
_ONLY_LOOKS = re.compile(r"(?:\s|\\(?:left|right|displaystyle|bf|textbf|[,;:! ])|\{|\}|\*)*")
MAX_CONTEXT = 160


class Box(NamedTuple):
    """``start`` and ``end`` of a box with its command, and of what is in it."""

    start: int
    content_start: int
    content_end: int
    end: int


class Boxes(NamedTuple):
    """The boxes of a text in order, outer ones only, and whether its last one is never closed."""

    boxes: list[Box]
    is_cut: bool


def boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, or None where there is none."""
    boxes = find_boxes(text).boxes
    return text[boxes[-1].content_start : boxes[-1].content_end].strip() if boxes else None


def find_boxes(text: str) -> Boxes:
    """All boxes that hold something, in the order in which they open."""
    opened: dict[int, int] = {}
    found: list[Box] = []
    first = -1
    for match in _BOX.finditer(text):
        if text[match.end() : match.end() + 1] == "{":
            opened[match.end()] = match.start()
            first = match.start() if first < 0 else first
        else:
            bare = _UNBRACED.match(text, match.end())
            if bare:
                found.append(Box(match.start(), bare.start(), bare.end(), bare.end()))
    if opened:
        found += _closed(text, opened, first)
    found.sort()
    outer: list[Box] = []
    for box in found:
        if not outer or box.start >= outer[-1].end:
            outer.append(box)
    last_open = max((start for brace, start in opened.items()), default=-1)
    is_cut = (
        bool(opened)
        and last_open > max((box.start for box in found), default=-1)
        and not _is_closed_empty(text, last_open)
    )
    return Boxes([box for box in outer if not _is_empty(text, box)], is_cut)


def _closed(text: str, opened: dict[int, int], first: int) -> list[Box]:
    stack: list[int] = []
    result = []
    for match in _BRACE.finditer(text, first):
        if match[0] == "{":
            stack.append(match.start())
        elif match[0] == "}" and stack:
            start = stack.pop()
            if start in opened:
                result.append(Box(opened[start], start + 1, match.start(), match.end()))
    return result


def _is_closed_empty(text: str, start: int) -> bool:
    return bool(re.compile(r"\\[a-z]+\s*\{\s*\}").match(text, start))


def _is_empty(text: str, box: Box) -> bool:
    content = text[box.content_start : min(box.content_end, box.content_start + 100)]
    whole = box.content_end - box.content_start < 100
    return whole and bool(_EMPTY.fullmatch(content) or _PLACEHOLDER.fullmatch(content))


def final_boxes(text: str, boxes: list[Box], *, doubted: bool = False) -> list[Box]:
    """The boxes of the final answer: the last that is not taken back, and those that one sentence joins to it; none if
    it is doubted ("But wait"), unless ``doubted``."""
    kept = [box for box in boxes if not _REFUSED.search(text, max(0, box.start - 40), box.start)]
    if kept and not doubted and _DOUBTED.match(text, kept[-1].end, kept[-1].end + 80):
        return []
    while kept and _TAKEN_BACK.match(text, kept[-1].end, kept[-1].end + 80):
        kept.pop()
    group = kept[-1:]
    for box in reversed(kept[-MAX_BOXES:-1]):
        if group[-1].start - box.end > MAX_BETWEEN or not _is_linked(text, box, group[-1]):
            break
        group.append(box)
    return group[::-1]


def _is_linked(text: str, left: Box, right: Box) -> bool:
    """Whether two boxes are parts of one answer: "x = 5, y = 7", "(a) 5 (b) 7", "one is 5. The other is 7"."""
    between = text[left.end : right.start]
    words = _MATHS_SIGNS.sub(" ", between).strip()
    if not words:
        return True
    if _TAKEN_BACK.match(between) or _TURNS.search(re.sub(r"[A-Za-z](?:_\{?\w+\}?)?\s*=\s*$", "", words)):
        return False
    if _NEW_SENTENCE.search(between) and not re.search(
        r"\b(?:other|second|third|another|also)\b|\((?:[a-z0-9]|[ivx]{1,4})\)", between
    ):
        return False
    return bool(_LINK.search(words))


def answers_in(text: str, group: list[Box]) -> list[str]:
    """The answers of the final boxes, with the signs and factors around them."""
    spans = [_span(text, box) for box in group]
    answers: list[str] = []
    index = 0
    while index < len(group):
        last = index
        while last + 1 < len(group) and spans[last + 1] is not None and spans[last + 1] == spans[index]:
            last += 1
        span = spans[index]
        if last > index and span is not None:
            answers += _of_one_formula(text, group[index : last + 1], span)
        else:
            answers.append(_in_context(text, group[index], span))
        index = last + 1
    return answers


def _of_one_formula(text: str, boxes: list[Box], span: tuple[int, int]) -> list[str]:
    r"""Several boxes in one formula: ``(\boxed{5}, \boxed{7})`` is one answer, ``\boxed{5} + \boxed{7} =
    \boxed{12}`` is 12."""
    pieces, position = [], span[0]
    for box in boxes:
        pieces += [text[position : box.start], " ", text[box.content_start : box.content_end], " "]
        position = box.end
    pieces.append(text[position : span[1]])
    formula = "".join(pieces).strip()
    between = [text[left.end : right.start] for left, right in pairwise(boxes)]
    if any(
        _RELATION.match(gap) or (re.search(r"[-+*/=]|\\(?:times|cdot|div)", gap) and "=" in gap and "," not in gap)
        for gap in between
    ):
        return [_in_context(text, boxes[-1], span)]
    if all(re.fullmatch(r"[\s{}]*\}[\s{}]*", gap) for gap in between) and _is_readable(
        formula
    ):  # \frac{\boxed{3}}{\boxed{4}}
        return [formula]
    bracketed = re.search(r"(?:[(\[]|\\\{|\\langle)\s*$", text[span[0] : boxes[0].start])
    if bracketed:
        whole = (
            _CUT_LEFT.split(text[span[0] : boxes[0].start])[-1]
            + formula[len(text[span[0] : boxes[0].start].lstrip()) :]
        )
        if _is_readable(whole):
            return [whole.strip()]
    return [_in_context(text, box, span) for box in boxes]


def _span(text: str, box: Box) -> tuple[int, int] | None:
    """Where the formula around a box begins and ends; None outside a formula."""
    low, high = max(0, box.start - 4 * MAX_CONTEXT), box.end + 2 * MAX_CONTEXT
    paragraph = text.rfind("\n\n", low, box.start)
    start = low if paragraph < 0 else paragraph + 2
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        opened = text.rfind(opening, low, box.start)
        if opened >= 0 and text.rfind(closing, opened, box.start) < 0:
            end = text.find(closing, box.end, high)
            return opened + 2, end if end >= 0 else box.end
    dollars = [match.start() for match in re.finditer(r"(?<!\\)\$", text[start : box.start])]
    is_inside = len(dollars) % 2 == 1 or (len(dollars) == 2 and dollars[1] == dollars[0] + 1)
    if not is_inside:
        return None
    end = text.find("$", box.end, high)
    return start + dollars[-1] + 1, end if end >= 0 else box.end


def _in_context(text: str, box: Box, span: tuple[int, int] | None) -> str:
    """What is in a box, with the sign and the factors beside it where they make an answer."""
    content = text[box.content_start : box.content_end].strip()
    if span is None:
        before = text[max(0, box.start - 6) : box.start]
        is_negative = re.search(
            r"(?:^|[=(]\s?|\bis\s)[-−]$", before
        )  # behind a word it is a dash and not content.startswith(("-", "+"))
        return f"-{_grouped(content)}" if is_negative and _is_readable("-" + _grouped(content)) else content
    left = text[max(span[0], box.start - MAX_CONTEXT) : box.start]
    right = text[box.end : min(span[1], box.end + MAX_CONTEXT)]
    left = _CUT_LEFT.split(left)[-1] if left else ""
    cut = _CUT_RIGHT.search(right)
    is_equation = cut is not None and _RELATION.match(right, cut.start()) is not None
    right = "" if right.startswith("_") else right[: cut.start()] if cut else right  # a base is named in the problem
    if re.search(r"[^\s=(,:]\s*[-+]\s*$", left):  # one term of a sum is boxed
        return content
    if _ONLY_LOOKS.fullmatch(left) and _ONLY_LOOKS.fullmatch(right):
        return content
    if re.search(r"\d\s*$", left) or (is_equation and not _ONLY_LOOKS.fullmatch(left)):  # a blank in an equation
        return content
    whole = f"{left} {_grouped(content)} {right}".strip()
    return whole if _is_readable(whole) and "boxed" not in whole else content


def _grouped(content: str) -> str:
    """A sum in brackets, so that a factor beside it multiplies all of it."""
    return f"({content})" if re.search(r".[-+]", re.sub(r"\{[^{}]*\}", "", content)) else content


def _is_readable(text: str) -> bool:
    try:
        read(tidied(text))
    except UnreadableError:
        return False
    return True
