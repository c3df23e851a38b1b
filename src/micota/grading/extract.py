r"""Extract the final answer from a completion."""

from __future__ import annotations

import re
from itertools import islice

from micota.grading.latex import boxes, is_closed

_NUMBER = re.compile(r"[-+−]?\s?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:\s?/\s?\d+(?:\.\d+)?)?")
_JSON_FIELD = re.compile(r'"answer\\?"\s*:\s*')
_JSON_STRING = re.compile(r'\\?"((?:[^"\\]|\\.){0,2000}?)\\?"(?=\s*(?:[,}\]`]|$))', re.DOTALL)
_JSON_START = re.compile(r"\s*(?:```(?:json)?\s*)?\{\s*\"")
_OUTPUT = re.compile(r"```output\s*\n([^`]*)```")  # printed output of a program in the completion
_MARKS = (
    re.compile(r"final answer(?:\s+is)?\**\s*:?\**\s*:?", re.IGNORECASE),
    re.compile(r"####"),
    re.compile(r"\banswer\**\s*(?:is\b\s*:?|:|=)\**\s*", re.IGNORECASE),
    re.compile(r"^\s*A:", re.MULTILINE),
)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"(?:\s|\$|\\[()\[\],;]|[,;&]|and|or|\\text\{\s*(?:and|or)\s*\}|\\quad)*")
MAX_FIELDS = 50  # read at most this many fields "answer": a completion may repeat itself
_TAIL_CHARS = 4_000  # without a box, only the end of a completion is searched


def boxed(completion: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, or None where there is none."""
    content = None
    for _, start, end in boxes(completion):
        content = start, end - 1
    return completion[content[0] : content[1]].strip() if content else None


def boxed_list(completion: str) -> str | None:
    """As ``boxed``, for lists: boxes separated only by commas or "and" are joined into one answer."""
    joined: list[tuple[int, int, int]] = []
    for start, content, end in boxes(completion):
        if joined and start < joined[-1][2]:  # a box around the last ones
            joined = [(start, content, end)]
        elif joined and _BETWEEN_BOXES.fullmatch(completion, joined[-1][2], start):
            joined.append((start, content, end))
        else:
            joined = [(start, content, end)]
    return ", ".join(completion[content : end - 1].strip() for _, content, end in joined) or None


def extract(completion: str, *, is_number: bool, is_list: bool = False) -> str | None:
    r"""The final answer of a completion, verbatim, or None where there is none.

    In this order: the field ``"answer"`` of a completion that is a JSON object; the last complete ``\boxed{}``; such a
    field anywhere; the text after "Final answer:", ``####``, "answer is", or "A:" at the start of a line; and, for an
    answer that is a number, the last printed result of a program, or the last number.
    """
    answer = _json_answer(completion) if _JSON_START.match(completion) else None
    answer = answer or (boxed_list(completion) if is_list else boxed(completion))
    if answer is not None:
        return answer
    tail = completion[-_TAIL_CHARS:]
    answer = _json_answer(tail)
    if answer is not None:
        return answer
    for mark in _MARKS:
        answer = _after(tail, mark, is_number)
        if answer is not None:
            return answer
    if not is_number or _is_cut_in_a_box(tail):
        return None
    outputs = [last_number(text) for text in _OUTPUT.findall(tail)]
    return outputs[-1] if outputs and outputs[-1] else last_number(tail)


def _is_cut_in_a_box(text: str) -> bool:
    """Whether the last box never closes: its content is not the answer, and neither is a number in it."""
    start = text.rfind("\\boxed{")
    return start >= 0 and not is_closed(text, start + len("\\boxed"))


def last_number(text: str) -> str | None:
    """The last number in a text, with sign and thousands separators."""
    for match in reversed(list(_NUMBER.finditer(text))):
        if any(character.isdigit() for character in match[0]):
            before = text[match.start() - 1 : match.start()]
            number = "".join(match[0].split()).replace("$", "").replace("−", "-")
            # In "24-12" the sign is an operator, not part of the number.
            is_operator = number[0] in "+-" and (before.isalnum() or before == ")")
            return number[1:] if is_operator else number
    return None


def _json_answer(text: str) -> str | None:
    """The first field "answer" that is not empty: after its JSON object a completion may go on to other problems."""
    for field in islice(_JSON_FIELD.finditer(text), MAX_FIELDS):
        string = _JSON_STRING.match(text, field.end())
        if string:
            # Undo JSON's escapes by hand: JSON would read "\frac" of a completion as a form feed and "rac".
            answer = string[1].replace('\\"', '"').replace("\\\\", "\\").strip(' "')
        else:
            number = _NUMBER.match(text, field.end())
            answer = number[0].strip() if number else ""
        if answer:
            return answer
    return None


def _after(text: str, mark: re.Pattern[str], is_number: bool) -> str | None:
    """The text after the last mark: the rest of its line, or the next line where that is empty."""
    matches = list(mark.finditer(text))
    if not matches:
        return None
    rest = text[matches[-1].end() :].lstrip(" \t\r\n:*>`")
    maths = _MATHS.match(rest)
    if maths:
        return next(group for group in maths.groups() if group is not None).strip() or None
    end = _SENTENCE_END.search(rest)
    line = (rest[: end.start()] if end else rest).strip(" \t*`\"'}]")
    if is_number and line and not re.match(r"[-+−$£€\\(\[{.\d]", line):
        # Prose follows ("the answer is that she has 5 apples"); a sum in it ends in its result.
        return last_number(line)
    return line or None
