r"""Marks: words behind which an answer stands, as "The answer is", "####", 【答案】."""

from __future__ import annotations

import re
from dataclasses import dataclass

from micota.grading.extraction.prose import MATHS, apart, last_values, leading_value, sentence, unemphasised
from micota.grading.reading.texts import is_option, options, plain


@dataclass(frozen=True)
class Wanted:
    """What the gold is: a lone letter counts only for an option, a number in prose only for a number, and a box without
    the variables behind it only for a coefficient."""

    is_number: bool = False
    is_list: bool = False
    is_option: bool = False
    is_text: bool = False
    is_time: bool = False
    is_finished: bool = True
    is_coefficient: bool = False


@dataclass(frozen=True)
class Mark:
    """Words behind which an answer stands. ``is_final`` marks weigh as much as a box."""

    pattern: re.Pattern[str]
    is_final: bool = False
    is_for_options: bool = False


_IS = r"\s{0,4}\**\s{0,4}(?:(?:is|are|was|=|:|：|为|是)(?![a-zA-Z])\s{0,4}:?|:)\**\s{0,4}"
# "The answer is" of other languages.
_ANSWER_WORDS = (
    r"respuesta(?: correcta| final)?|réponse(?: correcte| finale)?|(?:richtige |korrekte |endgültige )?antwort|lösung|"
    r"ergebnis|resposta(?: correta| final)?|risposta(?: corretta| finale)?|(?:правильный |окончательный )?ответ|答え|"
    r"正解|解答|정답|답|đáp án|odpowiedź|odpověď|cevap|yanıt|svar|vastaus|antwoord|răspuns|válasz|απάντηση|الإجابة|"
    r"الجواب|उत्तर|जवाब|תשובה"
)
_IS_ELSEWHERE = (
    r"\**\s{0,4}(?:(?:es|est|ist|lautet|beträgt|é|è|to|je|är|er|on|is|este|là|هي|هو|है|это)(?!\w)|[—은는はが：:])"
    r"\s{0,4}[:：]?\**\s{0,4}"
)
MARKS = (
    Mark(re.compile(rf"final answers?(?:{_IS}|\**\s{{0,4}}:?\**\s{{0,4}}(?=\n|$))", re.IGNORECASE), is_final=True),
    Mark(re.compile(r"####(?!#)\s{0,4}"), is_final=True),
    Mark(re.compile(r"【(?:最终)?答案】\s{0,4}[:：]?\s{0,4}"), is_final=True),
    Mark(re.compile(r"(?:故选|故答案(?:为|是)|因此选|所以选|应选|选择)\s{0,4}[:：]?\s{0,4}"), is_final=True),
    Mark(re.compile(r"选择?\s{0,4}[:：]?\s{0,4}(?=[（(]?[A-Z](?![a-zA-Z]))"), is_for_options=True),
    Mark(re.compile(rf"(?<!\w)(?:{_ANSWER_WORDS}){_IS_ELSEWHERE}", re.IGNORECASE)),
    Mark(re.compile(r"^[#*\s]{0,8}answer[*\s]{0,4}$", re.IGNORECASE | re.MULTILINE)),
    Mark(re.compile(r"正确(?:答案|选项)\s{0,4}(?:是|为|[:：])+\s{0,4}")),
    Mark(re.compile(r"(?:最终)?答案\s{0,4}(?:是|为|[:：])+\s{0,4}")),
    Mark(
        re.compile(
            rf"\banswers?(?:\s+(?:to|of|for)\s+(?:the|this)\s+(?:problem|question|exercise))?(?:{_IS})", re.IGNORECASE
        )
    ),
    Mark(
        re.compile(rf"\b(?:option|choice|selection)s?(?:\s+is\s+option)?(?:{_IS})(?:option\s+)?", re.IGNORECASE),
        is_for_options=True,
    ),
    Mark(
        re.compile(r"\b(?:choose|select|pick|mark|option|choice|go with|opt for)"
            r"\s+(?:option\s+|answer\s+)?(?=\(?[A-Z]\)?(?![a-zA-Z]))"),
        is_for_options=True,
    ),
    Mark(
        re.compile(
            rf"\b(?:(?:correct|right|best|true)\s+(?:one|statement|answer){_IS}|"
            r"(?:it's|it is|it must be)\s+(?=\(?[A-Z]\)?(?![a-zA-Z])))",
            re.IGNORECASE,
        ),
        is_for_options=True,
    ),
    Mark(re.compile(r"^[ \t]*(?:\*\*)?A(?:\*\*)?:(?:\*\*)?\s{0,4}", re.MULTILINE)),
)  # fmt: skip
_NO_ANSWER = re.compile(
    r"(?:\*|\s)*(?:not\b|n't|in\)?correct\b|wrong\b|correct\b|right\b|as follows|below|above|"
    r"given by\s*:?\s*$|unknown|unclear|obvious|the same\b|"
    r"yes\b|also\b|still\b|indeed\b|because\b|in the form\b|of the form\b|that (?:i|we)\b(?! (?:get|have|"
    r"need))|between\b|at (?:least|most)\b|"
    r"(?:more|less|greater|fewer|larger|smaller) than\b|expected\b|supposed\b|required\b|no longer\b)",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"not\b[^.\n]{1,60}?(?:\bbut\s+(?:rather\s+)?|[;,]\s*(?:it(?:'s| is)|rather|instead)\s+)", re.IGNORECASE
)
_HYPOTHETICAL = re.compile(
    r"\b(?:no way|doubt|unlikely|claim|suppose|assume|if|whether|someone|might|could|check|checking|verify|confirm)\b",
    re.IGNORECASE,
)
_NOT_IT = re.compile(
    r"\s*(?:is|are|was|does|do|can|could|would)?\s*(?:not|n't|cannot|impossible|wrong|incorrect|false|fails)\b"
)
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)]|\([a-z]\))\s+(.+)")


def after_mark(text: str, end: int, wanted: Wanted) -> list[str] | None:
    """The answer behind a mark: the rest of its sentence, or the next line, or the list of bullets there."""
    rest = text[end : end + 3_000]
    if "\n" in text[max(0, end - 4) : end] and not _bullets(rest):
        rest = re.sub(r"^[-•]\s+(?=\S)", "", rest)  # a list of one
    if not rest[: (rest + "\n").index("\n")].strip(" \t*:>`$\"'"):
        listed = _bullets(rest)
        if listed:
            return [", ".join(listed)]
        rest = rest.lstrip(" \t\r\n:*>`")
    rest = re.sub(r"^(?:[ \t:*>`]|\\boxed\{\s*\}|\$\\boxed\{(?:\\ |\s)*\}\$\.?(?:\s*So\b)?)+", "", rest)
    rest = rest[contrast.end() :] if (contrast := _CONTRAST.match(rest)) else rest
    if _NO_ANSWER.match(rest):
        return None
    # The mark may have taken the stars that open the answer.
    line = re.sub(r"^([^*\n]{1,60})\*\*(?!\*|[\d(])", r"\1", unemphasised(sentence(rest))).strip(" \t*`\"'")
    if not line:
        return None
    if wanted.is_option:
        return option_in(line)
    if wanted.is_text:
        return [line.rstrip(" .")]
    value = _value_of(line, wanted)
    if value is None:
        return None
    return None if is_option(value) and not wanted.is_text else [value]


def _value_of(line: str, wanted: Wanted) -> str | None:
    """The value at the start of a sentence, or the last in it where prose comes first ("that she has 5 apples")."""
    line = re.sub(r"^(?:\$\s*\$|=|≈|\\approx)\s*", "", line)
    value = leading_value(apart(line) if wanted.is_number else line)
    if value is not None:
        return value
    formulas = [match[0] for match in MATHS.finditer(line)]
    starts_with_value = re.match(r"[-+−$£€₹\\(\[{.\d]", line)
    if starts_with_value:
        return line
    if wanted.is_number or formulas:
        return last_values(line, plain=wanted.is_number)
    return None


def option_in(line: str) -> list[str] | None:
    """The option letters at the start of a sentence: "(B) Sphere", "option D", "\\text{C}"."""
    bare = plain(line.replace("$", " ")).strip(" *")
    bare = re.sub(r"^[\[<{]([A-Z])[\]>}]", r"\1", bare)
    small = re.fullmatch(r"\(?([a-z])[).]?", bare)
    if small:
        return [small[1].upper()]
    match = re.match(
        r"(?i:option|choice|answer|letter)?\s*"
        r"(\(?[A-Z]\)?(?![a-zA-Z])(?:\s*(?:,|and|or|&|/)\s*\(?[A-Z]\)?(?![a-zA-Z]))*|\([a-z]\))",
        bare,
    )
    if match and _NOT_IT.match(bare, match.end()):
        return None
    if match:
        return [match[1].upper()]
    named = options(bare)
    return [", ".join(named)] if named else None


def _bullets(rest: str) -> list[str]:
    listed: list[str] = []
    for line in rest.splitlines():
        if not line.strip():
            if listed:
                break
            continue
        match = _BULLET.match(line)
        if match is None:
            break
        listed.append(match[1].strip().rstrip(".").strip("$ "))
    return listed if len(listed) > 1 else []


def stated(text: str, wanted: Wanted) -> list[str] | None:
    """The answer behind the last mark of a text that has one; final marks come before others. What someone could claim
    the answer to be is none."""
    for is_final in (True, False):
        matches = sorted(
            match.span()
            for mark in MARKS
            if mark.is_final == is_final and (wanted.is_option or not mark.is_for_options)
            for match in mark.pattern.finditer(text)
        )
        for start, end in reversed(matches[-8:]):
            if not is_final and _HYPOTHETICAL.search(re.split(r"[.!?\n]", text[max(0, start - 80) : start])[-1]):
                continue
            answer = after_mark(text, end, wanted)
            if answer is not None:
                return answer
    return None
