r"""Answers in words: names, option letters, times of day."""

from __future__ import annotations

import re

from micota.grading.reading.moments import same_moment

_FONT = re.compile(
    r"\\(?:text|mbox|textrm|textbf|textit|textnormal|textsf|texttt|mathrm|mathbf|mathit|mathsf|hbox|operatorname|emph)\s*\{([^{}]*)\}"
)
_SPACES = re.compile(r"(?:\\(?:[,;:!> ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|~|\s)+")
_LOOKS = re.compile(r"\\(?:left|right|displaystyle|bf|rm|it|[bB]igg?[lr]?)(?![a-zA-Z])\s*")
_SPELLINGS = ((re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"), (re.compile(r"\\(?:leq|"
    r"leqslant)(?![a-zA-Z])"), r"\\le"),
              (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])"), r"\\ge"))  # fmt: skip
_LETTER = r"\(?\s*([A-Z])\s*\)?"
_OPTION = re.compile(rf"^{_LETTER}\s*[.:)]?$")
_OPTION_WITH_TEXT = re.compile(r"^(?:\(([A-Z])\)|([A-Z])[.:)])\s*(\S.*)$", re.DOTALL)
_LETTERS = re.compile(r"^\(?[A-Z]\)?(?:\s*(?:,|;|/|&|and|or|和)?\s*\(?[A-Z]\)?)+$")
_LABEL = re.compile(
    r"^(?:the\s+)?(?:correct\s+|final\s+)?(?:answer|option|choice)s?\s*(?:is|are|:)?\s*[:]?\s*(?=\(?[A-Za-z]\)?\b)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\S)")


def plain(text: str) -> str:
    r"""A tidied answer without fonts and spacing commands: ``\text{(A)}\ 5`` is "(A) 5"."""
    for _ in range(3):
        text = _FONT.sub(r"\1", text)
    text = " ".join(_SPACES.sub(" ", _LOOKS.sub("", text)).split())
    return text[1:-1].strip() if re.fullmatch(r"\{[^{}]*\}", text) else text


def compact(text: str) -> str:
    r"""A tidied answer for comparison as text: no spaces, fonts, or braces around a single character."""
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    text = re.sub(r"\s+", "", _LOOKS.sub("", _SPACES.sub("", text)))
    return re.sub(r"([\^_])\{(\w)\}", r"\1\2", text)


def is_words(text: str) -> bool:
    """Whether a tidied answer is prose: words, without a digit or anything of mathematics."""
    bare = plain(text)
    return bool(re.search(r"[^\W\d_]{2}", bare)) and not re.search(r"[\d\\=^_+*/<>|{}\[\]]", bare)


def options(text: str) -> tuple[str, ...]:
    """The option letters that an answer names, in order; empty where it names none. "(C) all of them" names C."""
    bare = _LABEL.sub("", plain(text)).strip(" .*")
    if re.fullmatch(r"\([a-z]\)", bare):
        bare = bare.upper()
    one = _OPTION.match(bare)
    if one:
        return (one[1],)
    if _LETTERS.match(bare):
        return tuple(re.findall(r"[A-Z]", bare))
    marked = re.findall(r"\(([A-Z])\)", bare)
    if marked:
        return tuple(dict.fromkeys(marked))
    named = _OPTION_WITH_TEXT.match(bare)
    return (named[1] or named[2],) if named else ()


def is_option(text: str) -> bool:
    """Whether a gold is an option letter or several, alone or before the text of the option."""
    bare = plain(text)
    return bool(
        _OPTION.match(bare)
        or re.match(r"^\([A-Z]\)\s*\S", bare)
        or re.fullmatch(r"\(?[A-Z]\)?(?:\s*(?:,|;|&|and)\s*\(?[A-Z]\)?)+", bare)
    ) and not re.match(r"^\([A-Z]\)\s*[+*/^=-]", bare)


def option_text(text: str) -> str:
    """What stands behind the letter of an option: "5" of "(A) 5"."""
    match = _OPTION_WITH_TEXT.match(plain(text))
    return match[3] if match else ""


def same_options(gold: str, answer: str) -> bool:
    """The same letters: as a set where the gold separates them, in order where it is one word ("CBAD")."""
    wanted, named = options(gold), options(answer)
    if not named:
        return False
    return set(wanted) == set(named) if len(wanted) > 1 else named == wanted


def same_words(gold: str, answer: str) -> bool:
    """The same words, whatever their case, an article before them, quotes and full stops; or the same time or date."""
    left, right = _words(gold), _words(answer)
    return left == right or left.replace(" ", "") == right.replace(" ", "") or same_moment(plain(gold), plain(answer))


def _words(text: str) -> str:
    bare = re.sub(r"[^\w\s:/+'-]", " ", plain(text)).casefold()
    return _ARTICLE.sub("", " ".join(bare.split())).strip(" .")
