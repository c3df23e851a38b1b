r"""Values in sentences: what follows a mark ("the answer is"), and the last value of a text without a mark.

A value is read as far as it goes: "18 apples, so Tom is happy" is 18, "158 + K" is not 158, "5 thousandths" is not 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from micota.grading.reading.nodes import Node
from micota.grading.reading.parser import read, tidied
from micota.grading.reading.tokens import UnreadableError
from micota.grading.reading.words import SCALES, unit_of, word_set

MATHS = re.compile(r"\$\$(.+?)\$\$|\$((?:[^$\\]|\\.)+)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(
    r"(?<!\bi\.e)(?<!\be\.g)(?<!\bi)(?<!\be)(?<!\bapprox)(?<!\bvs)(?<!\bsq)(?<!\b[ap]\.m)(?<!\\)[.!?](?=\s|$)|[。！？]|\n"
)
# Words behind a number that make another number of it.
VALUE_WORDS = word_set(
    """
    half halves quarter quarters third thirds fourth fourths fifth fifths sixth sixths seventh sevenths eighth
    eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths millionth millionths dozens
    hundreds thousands millions billions times plus minus less fewer more choose over divided multiplied squared
    cubed factorial remainder modulo mod to or through between power root raised not above below short double triple
    twice pairs fold percent-less
    """
)
_CUT_WORDS = frozenset(
    ["not", "no", "rather", "instead"]
)  # "18, not 19": behind a comma or a bracket these begin an aside
_BOUNDARY = re.compile(r",\s|\s\(|\s[-–—]\s|;|:\s|\s=\s*$")
_LABELLED = re.compile(
    r"\b(?:problem|step|equation|eqn?|line|case|part|figure|fig|page|section|question|exercise|method|theorem|lemma|"
    r"chapter|example|number|no|task|table|note|ref|reference|day|item|formula|inequality|condition|cell|in|row|round|"
    r"attempt|approach|horse|room)s?\.?\s*[(#\[]?\d+[)\]]?|\b(?:see|by|from|cf\.?|using)\s*\(\d+\)",
    re.IGNORECASE,
)
_NOT_LABELS = re.compile(r"(?:number|in|day|row|round|room|no)s?\b", re.IGNORECASE)
_ENUMERATION = re.compile(r"^[ \t]*(?:\(?\d+[.)]|\[\d+\]|[-*•])\s+", re.MULTILINE)
_FOOTNOTE = re.compile(r"\[\d+\]")
_EMPHASIS = re.compile(r"(?<![\w)*}])(\*\*|__)(?=[^\s*_])([^\n]{0,200}?[^\s*_]|[^\s*_])\1(?![\w(*])")
_HTML = re.compile(r"</?(?:b|strong|em|i|u|code|span|p|mark|br)\s?/?>", re.IGNORECASE)
_FENCED_VALUE = re.compile(r"```[a-z]*\n([-+\d.,/ %$]{1,60})\n```\s*$")
_ATTACHED = re.compile(r"^([-+]?\s?[\d.,]*\d)(?=[mgsLh](?![\w(*/^²³]))")
_JOINT = re.compile(r"(?<=[,;])\s+(?:and|but)$")
_COPULA = re.compile(r"\b(?:is|are|equals)\s+(?!not\b)|=\s*")
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CLOSING = re.compile(
    r"(?:I hope (?:it|this|that) (?:is|was|helps)[^.\n]*\.?|(?:I am|I'm) (?:sure|confident)[^\n]*|"
    r"Let me know[^\n]*)\s*$",
    re.IGNORECASE,
)
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))"
_ATOM = (
    rf"(?:[-+−]?\s?[$€£¥₹]?\s?{_NUMBER}%?|[a-zA-Z](?![a-zA-Z])|\((?:[^()\n]{{1,40}})\)|"
    r"(?:sqrt|pi|sin|cos|tan|log|ln|exp|infinity)(?![a-zA-Z]))"
)
_NEXT = rf"(?:\s*(?:[-+*/^=:<>×·÷−,]|\*\*|<=|>=)\s*{_ATOM}|(?<=\d)\s\d+\s?/\s?\d+|(?<=\d){_ATOM})"
_PLAIN = re.compile(rf"(?<![^\Wぁ-ヿ一-鿿가-힣])(?<![.'\\^])(?:[\[(]\s*)?{_ATOM}{_NEXT}{{0,40}}(?:\s*[\])])?")
MAX_SENTENCE = 600


def sentence(text: str) -> str:
    """The text up to the end of its first sentence or line; an end inside a formula does not count."""
    text = text[: 4 * MAX_SENTENCE]
    formulas = [match.span() for match in MATHS.finditer(text)]
    for end in _SENTENCE_END.finditer(text):
        if not any(start < end.start() < stop for start, stop in formulas) and not _is_inside_group(text, end.start()):
            return text[: end.start()]
    return text


def _is_inside_group(text: str, index: int) -> bool:
    """Whether an index lies inside an environment or a group of LaTeX."""
    if text.count(r"\begin{", 0, index) > text.count(r"\end{", 0, index):
        return True
    groups = text[:index].replace("\\{", "").replace("\\}", "")
    return groups.count("{") > groups.count("}") and "}" in text[index : index + 200]


@lru_cache(maxsize=8192)
def leading_value(text: str) -> str | None:
    """The value that a piece of prose begins with, as far as it reads; None where it begins with none."""
    candidate = text.strip()
    for _ in range(8):
        if not candidate:
            return None
        try:
            read(tidied(candidate))
        except UnreadableError as error:
            shorter = _shortened(candidate, error.word)
            if shorter is None:
                return None
            candidate = shorter
        else:
            return _undressed(candidate)
    return None


def _undressed(text: str) -> str:
    """A value without the full stop behind it and the dollar signs around all of it."""
    text = text.strip().rstrip("。").removesuffix(".") if not text.endswith("..") else text
    formula = MATHS.fullmatch(text.strip())
    return next(group for group in formula.groups() if group is not None).strip() if formula else text.strip()


def _shortened(text: str, word: str) -> str | None:
    """The text up to a word that does not belong to its value, or to the last boundary; None where that changes it."""
    if word:
        match = re.search(rf"(?<![a-zA-Z]){re.escape(word)}(?![a-zA-Z])", text)
        if match is None or match.start() == 0:
            return None
        before = text[: match.start()].rstrip()
        low = word.lower().strip(".")
        if low == "more" and before[-1:].isdigit() and not text[match.end() :].strip(" ."):  # "he needs 30 more"
            return before or None
        before = _JOINT.sub("", before)
        is_aside = before.endswith((",", "(", ";", "-", "–", "—", ":"))
        if (low in VALUE_WORDS or low in SCALES) and not (
            is_aside and (low in _CUT_WORDS or low in ("or", "is", "to"))
        ):
            return None
        return (
            re.sub(
                r"(?:[\s,;:(\[–—]|(?<=\s)[-=]|\b(?:and|or|but|a|an|the|in|on|at|for|of|with|by|per|from|so)\s*)+$",
                "",
                before + " ",
            ).strip()
            or None
        )
    boundaries = list(_BOUNDARY.finditer(text))
    return text[: boundaries[-1].start()].strip() or None if boundaries else None


def apart(text: str) -> str:
    """Prose with a space before a letter that is a unit: ``10m``, which is a product in a formula."""
    return _ATTACHED.sub(r"\1 ", text)


def unemphasised(text: str) -> str:
    """The text without the stars and underscores of Markdown around its words and numbers."""
    text = _HTML.sub("", text) if "</" in text or "<br" in text else text
    return _EMPHASIS.sub(r"\2", text) if "**" in text or "__" in text else text


def last_values(text: str, *, plain: bool) -> str | None:
    """The last value of the last sentence that has one; ``plain`` also takes numbers outside formulas."""
    text = _CLOSING.sub("", _CODE.sub(" ", _FENCED_VALUE.sub(r"\1", unemphasised(text))))
    text = _FOOTNOTE.sub(" ", text) if plain else text
    for line in _sentences_from_the_end(text):
        value = _last_of(line, plain)
        if value is not None:
            return value
    return None


def _sentences_from_the_end(text: str, most: int = 5) -> Iterator[str]:
    formulas = [match.span() for match in MATHS.finditer(text)]
    ends = [
        m.end() for m in _SENTENCE_END.finditer(text) if not any(start < m.start() < stop for start, stop in formulas)
    ]
    bounds = [0, *ends, len(text)]
    count = 0
    for start, stop in zip(reversed(bounds[:-1]), reversed(bounds[1:]), strict=True):
        line = text[start:stop].strip()
        if line:
            count += 1
            if count > most:
                return
            yield line


def _last_of(line: str, plain: bool) -> str | None:
    """The last value of a sentence, with what belongs to it."""
    masked = _LABELLED.sub(lambda match: match[0] if _NOT_LABELS.match(match[0]) else " " * len(match[0]), line)
    masked = _ENUMERATION.sub(lambda match: " " * len(match[0]), masked)
    spans = [match.span() for match in MATHS.finditer(masked)]
    if "\\" in re.sub(r"\\[$%]", "", MATHS.sub("", masked)):  # LaTeX without dollar signs: the whole of it, or nothing
        return _bare_latex(masked)
    if plain:
        spans += [
            m.span()
            for m in _PLAIN.finditer(masked)
            if re.search(r"\d", m[0]) and not any(a <= m.start() < b for a, b in spans)
        ]
    elif not spans:
        spans = [m.span() for m in _PLAIN.finditer(masked) if re.search(r"[=(\[:]", m[0]) and re.search(r"\d", m[0])]
    if not spans:
        return None if plain else _behind_copula(masked)
    spans.sort()
    first = len(spans) - 1
    while first > 0 and re.fullmatch(
        r"\s*(?:,|;|and|or|,\s*(?:and|or)|to|和|或)\s*", _without_unit(masked[spans[first - 1][1] : spans[first][0]])
    ):
        first -= 1
    whole = line[spans[first][0] :]
    before = line[: spans[first][0]].rstrip()
    if re.search(
        r"\b(?:not|isn't|isnot|cannot be|can't be|never|"
        r"(?:less|more|greater|fewer|larger|smaller) than|at least|at most|between)\s*$",
        before,
        re.IGNORECASE,
    ):
        return None
    whole = re.sub(r"(?<=\d)!\s*$", "", whole)  # an exclamation, outside formulas
    value = leading_value(whole if whole.startswith(("$", "\\")) else apart(whole))
    if value is None:
        return whole.strip() if first < len(spans) - 1 else _alone(line, spans[-1])
    return _first_of_restated(value)


def _behind_copula(line: str) -> str | None:
    """The value behind the last "is", "are" or "=" of a sentence without formulas: "the roots are 2 and 3"."""
    starts = [match.end() for match in _COPULA.finditer(line)]
    value = leading_value(line[starts[-1] :]) if starts else None
    return value if value is not None and re.search(r"[\d√]", value) else None


def _bare_latex(line: str) -> str | None:
    """The value of a sentence with LaTeX outside formulas: all of it, or what follows "=" or "is"."""
    if "matrix" not in line and "array" not in line:
        line = re.sub(r"\\(?:begin|end)\{[a-z]+\*?\}|&", " ", line).rstrip("\\ ").split("\\\\")[-1]
    for start in (0, *(match.end() for match in re.finditer(r"=|:\s|\bis\s", line))):
        value = leading_value(line[start:])
        if value is not None:
            return value
    return None


def _alone(line: str, span: tuple[int, int]) -> str:
    """A value that the words behind it change, with them: "5 thousandths"."""
    behind = re.match(r"\s*[a-zA-Z'-]+", line[span[1] :])
    return (line[slice(*span)] + (behind[0] if behind else "")).strip()


def _without_unit(between: str) -> str:
    """What stands between two values, without the unit of the first."""
    word = re.match(r"\s*([a-zA-Z]+)", between)
    if word and word[1].lower() not in ("and", "or", "to") and unit_of(word[1]):
        return between[word.end() :]
    return between


def _first_of_restated(value: str) -> str:
    """``18 days`` of "18 days, or 2.5 weeks": the same value in another unit."""
    try:
        node = read(tidied(value))
    except UnreadableError:
        return value
    if (
        node.head == "list"
        and len({_unit(part) for part in node.args}) == len(node.args)
        and all(map(_unit, node.args))
    ):
        first = re.split(r",|\bor\b|\band\b", value)[0].strip()
        return first or value
    return value


def _unit(node: Node) -> str:
    while node.head == "relation":
        node = node.args[-1]
    return node.name if node.head == "quantity" else ""
