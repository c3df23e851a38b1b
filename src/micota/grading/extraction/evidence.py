r"""Where a completion states its final answer: a declared order of kinds of evidence, each a named object.

The first kind in ``EVIDENCE`` that finds an answer decides, and its name goes into the reason of the verdict. A
statement
behind the last box is weighed against the box: if the two differ, there are two final answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from micota.grading.extraction.boxes import Box, Boxes, answers_in, final_boxes, find_boxes
from micota.grading.extraction.marks import Wanted, option_in, stated
from micota.grading.extraction.prose import MATHS, last_values, leading_value
from micota.grading.reading.moments import LAST_CLOCK
from micota.grading.reading.texts import is_option, plain

TAIL_CHARS = 4_000  # without a box, only the end of a completion is searched
MAX_FIELDS = 50  # read at most this many fields "answer": a completion may repeat itself


class Text:
    """A completion and what several kinds of evidence share of it."""

    def __init__(self, whole: str, wanted: Wanted) -> None:
        self.whole = whole
        self.wanted = wanted

    @cached_property
    def tail(self) -> str:
        if len(self.whole) <= TAIL_CHARS:
            return self.whole
        tail = self.whole[-TAIL_CHARS:]
        start = re.search(r"[.!?]\s|\n", tail[:500])  # not in the middle of a sentence
        return tail[start.end() :] if start else tail

    @cached_property
    def found(self) -> Boxes:
        return find_boxes(self.whole)

    @cached_property
    def final(self) -> list[Box]:
        return final_boxes(self.whole, self.found.boxes)

    @cached_property
    def is_cut(self) -> bool:
        """Whether the text ends in the middle of a formula or of a box: then its last number may be any number."""
        if self.found.is_cut:
            return True
        end = self.tail.rstrip()
        paragraph = end[end.rfind("\n\n") + 1 :]
        dollars = len(re.findall(r"(?<!\\)\$", paragraph.replace("$$", "")))
        opened = paragraph.rfind("\\(") > paragraph.rfind("\\)") or end.rfind("\\[") > end.rfind("\\]")
        is_price = dollars % 2 == 1 and re.search(r"\$\s?\d[^$\\^_={}+*/<>]*$", paragraph) is not None
        is_price = is_price or re.search(r"\d\s?\$[^$\\^_={}]*$", paragraph) is not None
        is_open_object = _JSON_START.match(self.whole) is not None and not end.endswith(("}", "`"))
        return (
            opened
            or is_open_object
            or _OPEN_GROUP.search(end[-200:]) is not None
            or (dollars % 2 == 1 and not is_price)
            or end.endswith(("=", "+", "\\", "^", "_", "\\cdot", "\\times"))
        )


_OPEN_GROUP = re.compile(r"\\[a-zA-Z]+(?:\{[^{}]*\})*\{[^{}]*$")  # a text that ends in \\frac{1}{
Finder = Callable[[Text], "list[str] | None"]


@dataclass(frozen=True)
class Evidence:
    """A kind of evidence. ``find`` returns the answers that it sees (several differing ones are ambiguous), or None.

    ``is_weak`` evidence is no statement of an answer: it does not count in a thought that is over.
    """

    name: str
    find: Finder
    is_weak: bool = False


_BEFORE = re.compile(
    r"(?:^|[.!?\n,:;]\s{0,3}|\b(?:so|thus|hence|therefore|that|means|option|choice)[,:]?\s{1,3})"
    r"([^\s.!?,:;][^.!?\n,:;]{0,59}?)"
    r"\s{1,3}(?:is|are)\s{1,3}(?:the|our|my)\s{1,3}(?:(?:final|correct|right|best)\s{1,3})?"
    r"(?:answers?|option|choice)\b(?!\s{1,3}(?:to|of|is))",
    re.IGNORECASE | re.MULTILINE,
)
_OPTION_BEFORE = re.compile(
    r"(?:\b(?:option|choice|answer)\s+)?\(?\b([A-Z](?:(?:,|\s+and|\s+or)\s+[A-Z])*)\b\)?\s+(?:is|are)\s+(?:the\s+)?(?:correct|right|true)\b"
)


def _named_before(text: Text) -> list[str] | None:
    """The answer before its mark: "18 is the final answer"."""
    if text.wanted.is_option:
        letters = [match[1] for match in _OPTION_BEFORE.finditer(text.tail)]
        if letters:
            return letters[-1:]
    for match in reversed(list(islice(_BEFORE.finditer(text.tail), 50))):
        answer = option_in(match[1]) if text.wanted.is_option else [match[1]] if text.wanted.is_text else None
        if answer is None and not text.wanted.is_option:
            value = leading_value(match[1]) if not is_option(match[1]) else None
            answer = [value] if value is not None else None
        if answer is not None:
            return answer
    return None


# ---------------------------------------------------------------------- boxes
_SECOND_THOUGHT = re.compile(
    r"\b(?:wait|hmm|actually|hold on|however|mistake|wrong|incorrect|not right|correction|"
    r"recompute|recalculate|reconsider|"
    r"but (?:I|that|this|if|then|maybe)|no,|let me (?:re|double|check|verify))",
    re.IGNORECASE,
)


def _boxed(text: Text) -> list[str] | None:
    """The final boxes; a statement behind them of another answer is a second answer."""
    if text.found.is_cut or not text.final:
        return None
    answers = answers_in(text.whole, text.final)
    if text.wanted.is_coefficient and len(text.final) == 1:
        box = text.final[0]
        answers = [text.whole[box.content_start : box.content_end]]
    if len(answers) > 1:
        answers = list(dict.fromkeys(answers))
        answers = [", ".join(answers)] if text.wanted.is_list else answers
    behind = stated(text.whole[max(0, len(text.whole) - TAIL_CHARS, text.final[-1].end) :], text.wanted)
    if behind is None:
        return answers
    if text.wanted.is_option and not all(is_option(answer) for answer in answers):
        return behind
    if _SECOND_THOUGHT.search(text.whole, text.final[-1].end):  # the box was one on the way
        return behind
    return [*answers, *(answer for answer in behind if answer not in answers)]


def _doubted_box(text: Text) -> list[str] | None:
    """The last box, although the text doubts it ("But wait"), where it comes to nothing else."""
    return answers_in(text.whole, final_boxes(text.whole, text.found.boxes, doubted=True)) or None


def _cut_box(text: Text) -> list[str] | None:
    """Nothing: the last box never closes, so the text was cut off in its answer."""
    return [] if text.found.is_cut else None


# ---------------------------------------------------------------------- JSON
_JSON_FIELD = re.compile(r'"answer\\?"\s*:\s*')
_JSON_STRING = re.compile(r'\\?"((?:[^"\\]|\\.){0,2000}?)\\?"(?=\s*(?:[,}\]`]|$))', re.DOTALL)
_JSON_START = re.compile(r"\s*(?:```(?:json)?\s*)?\{\s*\"")
_JSON_NUMBER = re.compile(r"[-+]?[\d.,]*\d(?:[eE][-+]?\d+)?(?:\s?/\s?\d+)?")


def _json_object(text: Text) -> list[str] | None:
    return _json_answer(text.whole) if _JSON_START.match(text.whole) else None


def _json_field(text: Text) -> list[str] | None:
    return _json_answer(text.tail)


def _json_answer(text: str) -> list[str] | None:
    """The first field "answer" that is not empty: after its JSON object a completion may go on to other problems."""
    for field in islice(_JSON_FIELD.finditer(text), MAX_FIELDS):
        answer = _json_value(text, field.end())
        if answer:
            return [answer]
    return None


def _json_value(text: str, start: int) -> str:
    string = _JSON_STRING.match(text, start)
    if string:
        # Undo JSON's escapes by hand: JSON would read "\frac" of a completion as a form feed and "rac".
        return string[1].replace('\\"', '"').replace("\\\\", "\\").strip(' "')
    if text[start : start + 1] in "[{":
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start : start + 2_000])
        except (ValueError, RecursionError):
            return ""
        values = list(value.values()) if isinstance(value, dict) else value
        return ", ".join(part if isinstance(part, str) else json.dumps(part) for part in values)
    number = _JSON_NUMBER.match(text, start)
    return number[0] if number else ""


# ---------------------------------------------------------------------- weak evidence
_OUTPUT = re.compile(r"```output\s*\n([^`]*)```")  # printed output of a program in the completion
_FAILED = re.compile(r"Traceback|Error\b|Exception\b")


def _marked(text: Text) -> list[str] | None:
    return stated(text.tail, text.wanted)


_TAGGED = re.compile(r"<answer>(.{0,2000}?)</answer>|\[ANSWER\](.{0,2000}?)\[/ANSWER\]", re.DOTALL)


def _tagged(text: Text) -> list[str] | None:
    """What the last pair of answer tags holds, unless that is a box or prose."""
    if "</answer>" not in text.tail and "[/ANSWER]" not in text.tail:
        return None
    match = list(_TAGGED.finditer(text.tail))[-1:]
    content = (match[0][1] or match[0][2] or "").strip() if match else ""
    if not content or "\\boxed" in content:
        return None
    if text.wanted.is_option:
        return option_in(content)
    inner = Text(content, text.wanted)
    return _marked(inner) or ([content] if text.wanted.is_text else _value_in_tag(content, text.wanted))


def _value_in_tag(content: str, wanted: Wanted) -> list[str]:
    value = leading_value(content) or last_values(content, plain=wanted.is_number)
    return [value if value is not None else content]


_EMPHASISED = re.compile(r"\*\*([^*\n]{1,60})\*\*")


def _emphasised(text: Text) -> list[str] | None:
    """The words in bold of the last line, as in: It falls on a **Tuesday**."""
    if not text.wanted.is_text or text.wanted.is_option or text.is_cut:
        return None
    lines = text.tail.strip().rsplit("\n", 1)
    words = _EMPHASISED.findall(lines[-1])
    return [words[0].strip(" .:")] if len(words) == 1 and not words[0].rstrip().endswith(":") else None


def _time_of_day(text: Text) -> list[str] | None:
    """The last time of day of the last line."""
    if not text.wanted.is_time or text.is_cut:
        return None
    times = list(LAST_CLOCK.finditer(text.tail.strip().rsplit("\n", 1)[-1]))
    return [times[-1][0]] if times else None


def _whole_option(text: Text) -> list[str] | None:
    """A completion, or its last line, that is an option letter alone."""
    if not text.wanted.is_option:
        return None
    lines = text.tail.strip().rsplit("\n", 1)
    bare = plain(lines[-1].replace("$", " ")).strip(" .*")
    return [bare.upper()] if re.fullmatch(r"\(?[A-Z]\)?|\(?[a-z]\)", bare) else None


def _printed(text: Text) -> list[str] | None:
    if not text.wanted.is_number or not text.wanted.is_finished or text.is_cut:
        return None
    outputs = _OUTPUT.findall(text.tail)
    if not outputs:
        return None
    if _FAILED.search(outputs[-1]):
        return []
    value = last_values(outputs[-1], plain=True)
    return [value] if value is not None else None


def _last_mathematics(text: Text) -> list[str] | None:
    if text.wanted.is_text or text.wanted.is_option:
        formulas = list(MATHS.finditer(text.tail))
        return [formulas[-1][0].strip("$")] if formulas and len(text.tail) - formulas[-1].end() < 20 else None
    if not text.wanted.is_finished or text.is_cut:
        return None
    value = last_values(text.tail, plain=text.wanted.is_number)
    return [value] if value is not None else None


_YES_OR_NO = re.compile(r"(yes|no|true|false)\b[,.!;]", re.IGNORECASE)
_COPULA = re.compile(
    r"\b(?:is|are|was|will be|must be|be)\s+(?:on\s+)?"
    r"(?:an?\s+|the\s+)?((?!not\b)[\w'-]{2,30}(?:\s[\w'-]{1,30}){0,2})\s?[.!]?$"
)


def _words_alone(text: Text) -> list[str] | None:
    """A short completion that is nothing but the words of the answer."""
    whole = text.whole.strip()
    if not text.wanted.is_text:
        return None
    verdict = _YES_OR_NO.match(whole)
    if verdict:
        return [verdict[1]]
    last = _COPULA.search(whole.rsplit("\n", 1)[-1])
    if last:
        return [last[1]]
    return [whole.rstrip(".")] if text.wanted.is_text and 0 < len(whole) <= 60 and "\n" not in whole else None


# The order in which evidence counts.
EVIDENCE: tuple[Evidence, ...] = (
    Evidence("JSON object", _json_object),
    Evidence("answer tag", _tagged),
    Evidence("box", _boxed),
    Evidence("cut off in a box", _cut_box),
    Evidence("JSON field", _json_field),
    Evidence("answer mark", _marked),
    Evidence("named as the answer", _named_before),
    Evidence("option alone", _whole_option),
    Evidence("printed output", _printed, is_weak=True),
    Evidence("last mathematics", _last_mathematics, is_weak=True),
    Evidence("doubted box", _doubted_box),
    Evidence("time of day", _time_of_day, is_weak=True),
    Evidence("emphasis", _emphasised, is_weak=True),
    Evidence("words alone", _words_alone, is_weak=True),
)


def kinds() -> Iterator[str]:
    """The names of all kinds of evidence, in order."""
    return (evidence.name for evidence in EVIDENCE)
