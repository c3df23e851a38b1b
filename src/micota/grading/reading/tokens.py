r"""LaTeX and ASCII mathematics -> tokens. One pass; nothing is evaluated.

Letters are read in context: ``cm`` behind a number is a unit, ``ab`` is a product, ``sqrt`` a function, "dozen" a word.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from micota.grading.reading.lexicon import (
    ACCENTS,
    CLOSE,
    CONSTANTS,
    FUNCTIONS,
    GREEK,
    IGNORED,
    OPEN,
    OPERATORS,
    RELATIONS,
    RENAMED,
    SEPARATORS,
)
from micota.grading.reading.words import (
    AND,
    BASES,
    OR,
    POWERS,
    SCALES,
    SHORT_WORDS,
    is_short_unit,
    number_word,
    part_of_one,
    unit_of,
)

MAX_TOKENS = 600


_CLOSING, _ONLY_NUMBERS = re.compile(r"\\?[)\]}]"), re.compile(r"[-\d,.\s]+")


class UnreadableError(ValueError):
    """Text that is not mathematics as this package reads it; the message says where. ``word`` is an unknown word."""

    def __init__(self, message: str, word: str = "", *, is_mathematics: bool = False) -> None:
        super().__init__(message)
        self.word = word
        self.is_mathematics = is_mathematics  # a known command without a value here, as \int


class Token(NamedTuple):
    """``kind`` is number, name, constant, function, unit, word, open, close, separator, relation, operator, command.
    ``space`` tells whether white space precedes; ``is_text`` whether it stands in a text command."""

    kind: str
    text: str
    space: bool = False
    is_text: bool = False


_SPACING = re.compile(
    r"(?:\s|~|\\(?:[ ,;:!>\n]|quad(?![a-zA-Z])|qquad(?![a-zA-Z])|thinspace(?![a-zA-Z])|enspace(?![a-zA-Z])))+"
)
_TEXT = re.compile(
    r"\\(?:text|mbox|textrm|textbf|textit|textnormal|textsf|texttt|textsc|mathrm|mathbf|mathit|mathsf|mathtt|hbox|emph|bm|"
    r"boldsymbol|operatorname\*?|textup|pmb|mathnormal|bold)\s*(?=\{)"
)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([a-zA-Z]+)\*?\}(?:\s*\{[lcr|@{}\s]*\}|\[[tbc]\])?")
_FONT_SET = re.compile(r"\\(?:mathbb|Bbb|mathbf|bf)\s*\{?\s*([RZQNC])\s*\}?")
_COMMAND = re.compile(r"\\(?:([a-zA-Z]+)\*?|(.))", re.DOTALL)
_NUMBER = re.compile(
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?|\d{1,3}(?: \d{3})+(?![\d/])(?:\.\d+)?|\d+\.\d+|\.\d+|\d+\.?)"
    r"(?P<repeat>\s*\\(?:overline|bar|dot|overset\{\\frown\})\s*(?:\{\d+\}|\d)|\(\d{1,9}\)(?=\s*$)|\s*(?:\.\.\.|…|\\[lc]?dots)(?![a-zA-Z]))?"
    r"(?P<power>[eE][-+]?\d+(?![\d.]))?"
)
_PLAIN_NUMBER = re.compile(
    r"(?P<digits>\d+\.\d+|\.\d+|\d+\.?)(?P<repeat>\s*\\(?:overline|bar)\s*(?:\{\d+\}|\d))?(?P<power>[eE][-+]?\d+(?![\d.]))?"
)
_LETTERS = re.compile(r"[a-zA-Z°€£¥₹₽¢а-яА-Яぁ-ヿ一-鿿가-힣]+(?:[-'][a-zA-Z]+)*\.?(?:[a-zA-Z]\.)?")
_SIGN = re.compile(r"\*\*|<=|>=|=<|!=|==|[-+*^/!=<>_|'%,;:&()\[\]{}.?\"`#@]")
_CURRENCY = "$€£¥₹₽"
_JOINT = re.compile(r"(or|and)[a-zA-Z]")
_JOINED_NAMES = re.compile(r"[a-zA-Z]or[a-zA-Z]")
_LOG_BASE = re.compile(r"(log)(2|10)$")
_ORDINAL = re.compile(r"\s*(?:\^\s*)?\{?\s*(?:\\(?:text|mathrm|textrm|mbox)\s*\{\s*)?(?:st|nd|rd|th)\b\s*\}{0,2}")


class Tokens:
    """The tokens of one text. ``extra`` are words that count as units here."""

    def __init__(self, text: str, *, thousands: bool = True, extra: frozenset[str] = frozenset()) -> None:
        self.tokens: list[Token] = []
        self._number = _NUMBER if thousands else _PLAIN_NUMBER
        self._extra = extra
        self._read(text, is_text=False)

    def _add(self, kind: str, text: str, space: bool, is_text: bool = False) -> None:
        if len(self.tokens) >= MAX_TOKENS:
            raise UnreadableError(f"more than {MAX_TOKENS} tokens")
        self.tokens.append(Token(kind, text, space, is_text))

    def _read(self, text: str, *, is_text: bool) -> None:
        index = 0
        space = False
        while index < len(text):
            gap = _SPACING.match(text, index)
            if gap:
                index, space = gap.end(), True
                continue
            index = self._one(text, index, space or (is_text and index == 0), is_text)
            space = False

    def _one(self, text: str, index: int, space: bool, is_text: bool) -> int:
        """Read one token at ``index``; return the index behind it."""
        character = text[index]
        if character == "\\":
            return self._command(text, index, space)
        if character.isdigit() or (character == "." and text[index + 1 : index + 2].isdigit()):
            match = self._number.match(text, index)
            if match and "," in match["digits"] and _is_in_brackets(text, index, match.end()):
                match = _PLAIN_NUMBER.match(text, index)  # (2,251,252) has three entries
            if match is None:  # a digit of another script
                raise UnreadableError(f"character {character!r}")
            is_repeat = (match["repeat"] or ".")[0] != "(" or "." in match["digits"]  # 0.(3), but 100(13) is a product
            end = match.end() if is_repeat else match.end("digits")
            self._add("number", text[index:end], space, is_text)
            ordinal = _ORDINAL.match(text, end)
            return ordinal.end() if ordinal and match["digits"].isdigit() else end
        if character in _CURRENCY:
            self._add("unit", unit_of(character) or character, space, is_text=True)
            return index + 1
        letters = _LETTERS.match(text, index)
        if letters:
            return index + self._letters(letters[0], space, is_text, text[letters.end() : letters.end() + 1])
        sign = _SIGN.match(text, index)
        if sign is None:
            raise UnreadableError(f"character {character!r}")
        self._sign(sign[0], space)
        return sign.end()

    def _sign(self, sign: str, space: bool) -> None:
        if sign in RELATIONS:
            self._add("relation", RELATIONS[sign], space)
        elif sign in OPERATORS:
            self._add("operator", OPERATORS[sign], space)
        elif sign in OPEN:
            self._add("open", OPEN[sign], space)
        elif sign in CLOSE:
            self._add("close", CLOSE[sign], space)
        elif sign in SEPARATORS:
            self._add("separator", SEPARATORS[sign], space)
        elif sign == "&":
            self._add("cell", "&", space)
        elif sign == '"':
            self._add("unit", "in", space, is_text=True)
        elif sign not in ".?`":
            raise UnreadableError(f"character {sign!r}")

    def _command(self, text: str, index: int, space: bool) -> int:
        end = self._structure(text, index, space)
        if end is not None:
            return end
        match = _COMMAND.match(text, index)
        if match is None:
            raise UnreadableError("a lone backslash")
        name = match[1] or match[0]
        if name in RELATIONS and match[1]:
            self._add("relation", RELATIONS[name], space)
        elif name in OPERATORS and match[1]:
            self._add("operator", OPERATORS[name], space)
        elif name in OPEN:
            self._add("open", OPEN[name], space)
        elif name in CLOSE:
            self._add("close", CLOSE[name], space)
        elif name in SEPARATORS:
            self._add("separator", SEPARATORS[name], space)
        elif name == "\\\\" or name == "cr":
            self._add("row", "\\", space)
        elif name == "\\$":
            self._add("unit", "$", space, is_text=True)
        elif name == "\\%":
            self._add("operator", "%", space)
        elif name == "\\|":
            self._add("operator", "|", space)
        elif name in ("\\&", "\\#", "\\_"):
            self._add("separator", "and", space)
        elif name in CONSTANTS:
            self._add("constant", CONSTANTS[name], space)
        elif name in GREEK:
            self._add("name", name.replace("var", ""), space)
        elif name in FUNCTIONS:
            self._add("function", RENAMED.get(name, name), space)
        elif name in ("dots", "ldots", "cdots", "dotsc"):
            self._add("name", "…", space)
        elif name in ("sphericalangle", "measuredangle", "angle"):
            self._add("command", "angle", space)
        elif name in ACCENTS or name in IGNORED or not match[1]:
            dot = re.compile(r"\s*\.").match(text, match.end()) if name in ("left", "right") else None
            return dot.end() if dot else match.end()
        else:
            self._add("command", name, space)
        return match.end()

    def _structure(self, text: str, index: int, space: bool) -> int | None:
        """Text commands, environments and named sets; None where the command is none of them."""
        named = _FONT_SET.match(text, index)
        if named:
            self._add("set", named[1], space)
            return named.end()
        environment = _ENVIRONMENT.match(text, index)
        if environment:
            self._add("begin" if environment[1] == "begin" else "end", environment[2], space)
            return environment.end()
        font = _TEXT.match(text, index)
        if font is None:
            return None
        end = closing_brace(text, font.end())
        if end < 0:
            raise UnreadableError("a brace is not closed")
        content = text[font.end() + 1 : end].replace("$", " ")
        if not content.strip(" .~\\,;"):
            return end + 1
        self._read_text(content, space)
        return end + 1

    def _read_text(self, content: str, space: bool) -> None:
        start = len(self.tokens)
        self._read(content, is_text=True)
        if start < len(self.tokens) and space:
            self.tokens[start] = self.tokens[start]._replace(space=True)

    def _letters(self, run: str, space: bool, is_text: bool, following: str) -> int:
        """Read a run of letters; return how many characters of it were read."""
        word = run
        if word.endswith(".") and not re.search(r"[a-zA-Z]\.[a-zA-Z]\.$", word):
            word = word[:-1]
        if "-" in word and not is_text and number_word(word) is None and not _is_fraction_word(word):
            word = run = word.partition("-")[0]
        low = word.lower().rstrip(".")
        if _JOINED_NAMES.fullmatch(word) and not space and self.tokens and self.tokens[-1].kind == "relation":
            self._add("name", word[0], space)  # f=xorf=-x
            return 1
        joint = _JOINT.fullmatch(word)
        if joint and not space and self.tokens and self.tokens[-1].kind in ("number", "close", "name"):
            self._add("separator", joint[1], space)  # x=1orx=2
            return len(joint[1])
        known = self._known_word(word, low, space, is_text)
        if known is not None:
            self._add(*known, space, is_text)
            return len(run) if known[0] in ("unit", "separator", "word") else len(word)
        if re.fullmatch(r"[a-zA-Z]", word):
            self._add("constant", word, space, is_text) if word in "ei" else self._add("name", word, space, is_text)
            return 1
        based = _LOG_BASE.match(word)
        if based:
            self._add("function", "log", space)
            return 3
        if (len(word) == 4 and word[:3] in FUNCTIONS) or (len(word) == 3 and word[:2] == "ln"):  # sinx, lnx
            cut = 3 if word[:3] in FUNCTIONS else 2
            self._add("function", word[:cut], space)
            return cut
        if (
            word.isalpha()
            and word.isascii()
            and (len(word) <= 3 or (word.isupper() and len(word) <= 5))
            and not (is_text and len(word) > 3)
        ):
            is_capitalised = len(word) == 3 and word[0].isupper() and word[1:].islower()
            if low not in SHORT_WORDS and not is_capitalised:
                for offset, letter in enumerate(word):
                    self._add("constant" if letter in "ei" else "name", letter, space and offset == 0, is_text)
                return len(word)
        self._add("word", word, space, is_text)
        return len(run)

    def _is_apart(self, letter: str) -> bool:
        """Whether a letter behind a number and a space is a unit: ``5 m``, but not the ``t`` of ``\\sin^2 t``."""
        last, before = self.tokens[-1], self.tokens[-2].text if len(self.tokens) > 1 else ""
        return is_short_unit(letter) and last.kind == "number" and before not in ("^", "_")

    def _known_word(self, word: str, low: str, space: bool, is_text: bool) -> tuple[str, str] | None:
        """The kind and text of a word with a meaning of its own here, or None."""
        last = self.tokens[-1] if self.tokens else None
        follows_value = last is not None and (
            last.kind in ("number", "close", "unit", "constant")
            or last.text == "%"
            or (last.kind == "name" and is_text)
            or last.text.lower() in SCALES
            or last.text in ("per", "/")
            or (last.kind == "word" and low not in AND + OR)
        )
        if low in AND or word in AND:
            return "separator", "and"
        if (low in OR or word in OR) and (word != "U" or (last is not None and last.kind == "close")):
            return ("operator", "cup") if word == "U" else ("separator", "or")
        if low in POWERS or low == "per":
            return "word", low
        if number_word(low) is not None or low in SCALES:
            return "word", low
        divides = last is not None and last.text == "/" and len(self.tokens) > 1 and self.tokens[-2].kind == "unit"
        if follows_value and not (len(word) == 1 and word.isascii() and not (space or is_text or divides)):
            unit = unit_of(word, self._extra)
            if unit is not None and (len(word) > 1 or not word.isascii() or is_text or divides or self._is_apart(word)):
                return "unit", unit
        if is_text and len(word) > 1 and unit_of(word, self._extra) is not None and low not in SHORT_WORDS:
            return "unit", unit_of(word, self._extra) or word
        if part_of_one(low) is not None or _is_fraction_word(low):
            return "word", low
        if low in BASES and is_text and last is not None and last.text == "_":
            return "word", low
        if word in CONSTANTS or (low in CONSTANTS and len(low) > 2):
            return "constant", CONSTANTS[low]
        if word in FUNCTIONS or (low in FUNCTIONS and len(low) > 2):
            name = word if word in FUNCTIONS else low
            return "function", RENAMED.get(name, name)
        return ("name", word) if word in GREEK else None


def _is_fraction_word(word: str) -> bool:
    """Whether this is one word for a fraction: "two-thirds"."""
    top, _, bottom = word.rpartition("-")
    return bool(top) and number_word(top) is not None and part_of_one(bottom) is not None


def _is_in_brackets(text: str, start: int, end: int) -> bool:
    """Whether a number stands in a tuple or set of plain numbers: commas then part its entries."""
    opening = max(text.rfind("(", 0, start), text.rfind("[", 0, start), text.rfind("\\{", 0, start) + 1)
    closing = _CLOSING.search(text, end)
    if opening < 0 or closing is None or not _ONLY_NUMBERS.fullmatch(text, opening + 1, closing.start()):
        return False
    return not text[:opening].rstrip("\\left ")[-1:].isalnum()  # 2(1,500) is a product


def closing_brace(text: str, start: int) -> int:
    """The index of the curly brace that closes the one at ``start``; -1 where there is none."""
    depth = 0
    index = start
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 2
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return -1
