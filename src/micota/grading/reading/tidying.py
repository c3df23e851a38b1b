"""What only surrounds an answer, taken off it."""

from __future__ import annotations

import re

from micota.grading.reading.characters import readable
from micota.grading.reading.separators import joined_groups
from micota.grading.reading.tokens import closing_brace
from micota.grading.reading.words import SCALES, number_word

MAX_CHARS = 2_000
_SPLIT_THOUSANDS = re.compile(
    r"(?<=\d)(?:,\\!|\{,\}\\?!?|\\,|\\!|\\thinspace|\{ ?, ?\}|,\\ (?=\d{3})|\\ )\s*(?=\d{3}(?!\d))"
)
_LABEL = re.compile(
    r"^(?:\*\*)?\s*(?:the )?(?:final )?(?:answer|ans)\b(?:\s+is\b)?\s*[:=]?\s*(?:\*\*)?\s*(?=\S)", re.IGNORECASE
)
_SPELT = re.compile(r"(?<=[\d.%}])\s*(?:\\text\s*\{\s*)?\(([a-z -]+)\)\s*\}?(?:\.?$|(?=\s[a-z]{2}))")
_PER_CENT = re.compile(r"\bper cent\b", re.IGNORECASE)
_SIGNS = {"rs": "₹", "inr": "₹", "usd": r"\$", "eur": "€", "gbp": "£"}
_CURRENCY_CODE = re.compile(
    r"^(?:(?:US|AU|CA|HK|NZ|A|C|S)\s?(?=\\?\$\s?\d)|(Rs|INR|USD|EUR|GBP)\b\.?\s?(?=\d))", re.IGNORECASE
)
_COLOR = re.compile(r"\\(?:textcolor|color|colorbox|fcolorbox\s*\{[\w!]+\})\s*\{[\w!]+\}")
# Words behind an answer that leave it as it is, and a restatement in brackets: 0.5 (= 1/2).
_REMARK = re.compile(
    r"(?:\s|\\[,;: ]|\\q?quad|~)*(?:\\text\s*\{\s*\(?(?:approximately|approx\.?|only|rounded[^{}()]*|(?:in )?total|"
    r"altogether)\)?\s*\}|\(\s*(?:\\text\s*\{\s*or\s*\}|or\s|=|\\approx)[^()]*\))$"
)
_UNIT_IN_BRACKETS = re.compile(r"(?<=[\d}\s])\\text\s*\{\s*\(([a-zA-Z]{1,12})\)\s*\}$")
_PART_OF = re.compile(r"\b(half|quarter) (?:of )?an? (?=[a-z])")
_YEAR = re.compile(r"^(?:\\text\s*\{)?\s*(?:the )?year\s*\}?\s*(?=\d)")
_SPACE_AROUND = re.compile(r"^(?:\\[,;:! ]|\\q?quad(?![a-zA-Z])|~|\s)+|(?:\\[,;:! ]|\\q?quad|~|\s)+$")
_OR_SO = re.compile(r"\s*(?:\\text\s*\{\s*)?\bor so\b\s*\}?$")
_END = re.compile(r"(?:(?<!\.)\.|[,;:。]|\\\\|\s)+$")


def tidied(answer: str) -> str:
    """An answer without what only surrounds it: dollar signs, a label, a full stop, braces or stars around all of
    it."""
    text = readable(answer[: MAX_CHARS + 1])
    bare = text.replace("\\$", "")
    if bare.count("$") == 1 and re.match(r"[-+]?\s*\$\s*[\d.]", bare) and "\\$" not in text:
        text = text.replace("$", "\\$")  # a price, not a formula
    text = re.sub(r"(?<!\\)\$", " ", text).strip()
    text = _OR_SO.sub("", _SPLIT_THOUSANDS.sub(",", text))
    text = joined_groups(_PER_CENT.sub("percent", text).replace("+/-", r"\pm "))
    text = re.sub(r"(?<=\d)''", '"', text)  # inches
    text = _CURRENCY_CODE.sub(lambda match: _SIGNS[match[1].lower()] if match[1] else "", text)
    text = _PART_OF.sub(r"\1 ", _COLOR.sub("", text))
    text = _YEAR.sub("", text)
    spelt = _SPELT.search(text)
    if spelt and all(map(_is_number_word, spelt[1].split())):
        text = text[: spelt.start()] + text[spelt.end() :]  # 5 (five), 12 (a dozen) eggs
    text = _UNIT_IN_BRACKETS.sub(r"\\text{ \1}", text)
    while True:
        before = text
        text = _REMARK.sub("", _SPACE_AROUND.sub("", text))
        end = _END.search(text)
        if end and not text.endswith("\\."):
            text = text[: end.start()]
        text = re.sub(r"^(?:\\[\[(]|\\displaystyle(?![a-zA-Z]))\s*|\s*\\[\])]$", "", text).strip()
        if text.startswith("{") and closing_brace(text, 0) == len(text) - 1 and not _has_comma(text):
            text = text[1:-1].strip()
        for pair in ("**", "*", '"', "'", "`", "__"):
            if len(text) > 2 * len(pair) and text.startswith(pair) and text.endswith(pair):
                text = text[len(pair) : -len(pair)].strip()
        boxed = re.match(r"\\(?:boxed|fbox|framebox)\s*(?=\{)", text)
        if boxed and closing_brace(text, boxed.end()) == len(text) - 1:
            text = text[boxed.end() + 1 : -1].strip()
        label = _LABEL.match(text)
        if label and label.end() < len(text):
            text = text[label.end() :]
        if text == before:
            return text


def _is_number_word(word: str) -> bool:
    return number_word(word) is not None or word in SCALES or word in ("and", "a")


def _has_comma(text: str) -> bool:
    """Whether ``{1, 2}`` is a set in ASCII rather than a group of LaTeX."""
    return bool(re.fullmatch(r"\{[^{}\\]*,[^{}\\]*\}", text))
