r"""Tokens -> a tree of nodes, by recursive descent. LaTeX and ASCII mathematics are read by one grammar:

    answer   = clause {separator clause}            x = 1 or x = 2
    clause   = sets {relation sets}                 0 < x <= 2
    sets     = quantity {cup|cap|minus quantity}    (0, 1] \cup \{3\}
    quantity = sum [unit]                           2\sqrt{3} \text{ cm}^2
    sum, product, power, atom                       as usual; a product may have no sign between its factors

Depth and length are limited, so a hostile text costs little.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from micota.grading.reading.arithmetic import Arithmetic
from micota.grading.reading.cursor import NOTHING
from micota.grading.reading.nodes import Node, number
from micota.grading.reading.texts import plain
from micota.grading.reading.tidying import MAX_CHARS, tidied
from micota.grading.reading.tokens import Tokens, UnreadableError
from micota.grading.reading.units import UnitReader
from micota.grading.reading.words import BASES, HARMLESS

_BASED = re.compile(
    r"^\(?\s*(?:\\(?:text|mathrm|mathtt)\s*\{)?([0-9A-Za-z]{1,60})\}?\s*\)?\s*_\s*\{?\s*(?:\\(?:text|mathrm)\s*\{)?\s*(\d{1,2}|[a-z]{3,11})\s*\}{0,2}$"
)
_BASE_IN_WORDS = re.compile(r"([0-9A-Z]{1,60})\s*(?:in |\()?base[ -](\d{1,2}|[a-z]{3,11})\)?")
_PREFIXED = re.compile(r"0([bBoOxX])([0-9a-fA-F]{1,60})")
_REALS = re.compile(
    r"^(?:[a-z]\s*\\in\s*)?(?:the set of )?(?:all|any|every)?\s*(?:the )?(?:real numbers?|reals?|"
    r"real values?(?: of [a-z])?)(?:\s+[a-z](?=\s|$))?\s*(?:(?:except|other than|besides|but not|excluding|"
    r"such that [a-z]\s*(?:\\neq?|!=))(?: for)?\s*(.*))?$",
    re.IGNORECASE,
)
_HALF_LINES = tuple(
    (re.compile(rf"(?:the set of )?(?:all )?(?:the )?{sign} (?:real numbers?|reals?)", re.IGNORECASE), name)
    for sign, name in (("positive", "R+"), ("negative", "R-"), ("non-?negative", "R>=0"), ("non-?positive", "R<=0"))
)
_EMPTY = re.compile(
    r"^(?:there (?:is|are) )?(?:no (?:real )?solutions?(?: exists?)?|none|"
    r"the empty set|empty set|\\(?:emptyset|varnothing)|"
    r"\\\{\s*\\\})$",
    re.IGNORECASE,
)
_TURNED = re.compile(r"([\[\]])([^\[\]()]*)([\[\]])")
_UNWRAP = re.compile(r"\\(?:text|mbox|textrm|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_CLOSING = frozenset(["close", "cell", "row", "end", "operator", "relation"])


@lru_cache(maxsize=65_536)
def read(text: str, *, thousands: bool = True, extra: frozenset[str] = frozenset()) -> Node:
    """The tree of a tidied answer.

    Raises:
        UnreadableError: it is no mathematics that this grammar knows.
    """
    if len(text) > MAX_CHARS:
        raise UnreadableError(f"longer than {MAX_CHARS} characters")
    plain = re.fullmatch(r"[-+]?\d{1,30}", text)
    if plain:
        return number(int(text))
    text = _turned_brackets(text)
    special = _special(text)
    if special is not None:
        return special
    try:
        parser = Parser(Tokens(text, thousands=thousands, extra=extra).tokens)
        node = parser.items(())
    except RecursionError:
        raise UnreadableError("nested too deep") from None
    if node == Node("symbol", name="…"):
        raise UnreadableError("dots alone")
    if parser.position < len(parser.tokens):
        raise UnreadableError(f"unexpected {parser.tokens[parser.position].text!r}")
    return node


def _in_base(text: str) -> Node | None:
    """``2A_{16}``, ``1010 \\text{ base } 2``, ``0b1010``; None where no base is named."""
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        return _digits_in(prefixed[2].upper(), {"b": 2, "o": 8, "x": 16}[prefixed[1].lower()])
    match = _BASED.match(text) or _BASE_IN_WORDS.fullmatch(plain(text))
    if match is None or not (match[2].isdigit() or match[2] in BASES):
        return None
    base = int(match[2]) if match[2].isdigit() else BASES[match[2]]
    # Small letters are digits only of base 16: 2a_{11} may be twice a term of a sequence.
    digits = match[1].upper() if base == 16 else match[1]
    return _digits_in(digits, base) if any(digit.isdigit() for digit in digits) else None


def _digits_in(digits: str, base: int) -> Node | None:
    if not 2 <= base <= 36 or re.search("[a-z]", digits) or any(int(digit, 36) >= base for digit in digits):
        return None
    return Node("base", name=digits.lstrip("0") or "0", value=Fraction(base))


def _turned_brackets(text: str) -> str:
    """Open ends of intervals as ``(`` and ``)``, where they are written as turned brackets: ``]1, 3[``."""
    return _TURNED.sub(_straight, text) if "]" in text or text.count("[") > 1 else text


def _straight(match: re.Match[str]) -> str:
    ends = [part.strip() for part in re.split("[,;]", match[2])]
    if len(ends) < 2 or not all(ends):
        return match[0]
    return ("(" if match[1] == "]" else "[") + match[2] + (")" if match[3] == "[" else "]")


def _special(text: str) -> Node | None:
    """Numbers in another base with letters, and sets in words."""
    based = _in_base(text)
    if based is not None:
        return based
    if not re.search(r"real|none|solution|empty|varnothing|\\\{\s*\\\}", text):
        return None
    words = " ".join(_UNWRAP.sub(r" \1 ", text.replace("\\ ", " ")).split()).strip(" .,")
    if _EMPTY.match(words):
        return Node("set")
    for pattern, name in _HALF_LINES:
        if pattern.fullmatch(words):
            return Node("named", name=name)
    reals = _REALS.match(words)
    if reals is None:
        return None
    if not reals[1]:
        return Node("named", name="R")
    outside = read(tidied(reals[1]))
    outside = outside.args[-1] if outside.head == "relation" else outside
    return Node("minus", (Node("named", name="R"), Node("set", outside.args if outside.head == "list" else (outside,))))


class Parser(Arithmetic):
    """The top of the grammar: clauses, relations, sets, quantities."""

    def items(self, closers: tuple[str, ...]) -> Node:
        """Clauses between separators, up to one of the closing tokens (which stays)."""
        nodes: list[Node] = []
        signs: list[str] = []
        while not self._at_end(closers):
            nodes.append(self.clause())
            sign = ""
            while token := self.take("separator"):
                sign = token.text if token.text in ("and", "or") or not sign else sign
            if self._at_end(closers):
                break
            if not sign:
                raise UnreadableError(f"unexpected {self.peek().text!r}", self._word())
            signs.append(sign)
        nodes = _without_qualifiers(nodes)
        if not nodes:
            raise UnreadableError("empty")
        if len(nodes) == 1:
            return nodes[0]
        return Node("list", tuple(nodes), name="or" if "or" in signs else "and" if "and" in signs else ",")

    def _at_end(self, closers: tuple[str, ...]) -> bool:
        token = self.peek()
        if token is NOTHING:
            return True
        return token.kind in _CLOSING and token.text in closers

    def _word(self) -> str:
        return self.peek().text if self.peek().kind == "word" else ""

    def clause(self) -> Node:
        self._skip_harmless()
        parts = [self.sets()]
        signs: list[str] = []
        if choose := self.take("command", "choose", "over"):  # {10 \\choose 3}
            head = Node("quotient") if choose.text == "over" else Node("function", name="binom")
            return head._replace(args=(parts[0], self.sets()))
        while (token := self.peek()).kind == "relation" and not (self.in_set and token.text == "mid"):
            self.position += 1
            if token.text == "equiv" and self.peek() is NOTHING:
                break
            signs.append(token.text)
            parts.append(self.sets())
        if self.peek().kind == "command" and self.peek().text in ("pmod", "bmod", "mod"):  # 5 \pmod 7
            self.position = len(self.tokens)
        return parts[0] if not signs else Node("relation", tuple(parts), name=" ".join(signs))

    def _skip_harmless(self) -> None:
        """Leave out a label before the value, such as "the answer is"."""
        start = self.position
        while (token := self.peek()).kind == "word" and token.text.lower().rstrip(":") in HARMLESS:
            self.position += 1
        if self.position > start:
            self.take("operator", ":")
            self.take("relation", "=")
        elif (self.peek().kind == "relation" and self.peek().text in ("=", "approx")) or (
            self.peek().kind == "relation" and self.peek().text == "to"
        ):  # "= 5"
            self.position += 1
        if self.peek() is NOTHING and self.position > start:
            raise UnreadableError("words alone", self.tokens[start].text)

    def sets(self) -> Node:
        node = self.ratio()
        while token := self.take("operator", "cup", "cap", "minus"):
            head = {"cup": "union", "cap": "intersection", "minus": "minus"}[token.text]
            node = Node(head, (node, self.ratio()))
        return node

    def ratio(self) -> Node:
        parts = [self.quantity()]
        while not self.in_set and (self.take("operator", ":") or self.take("word", "to")):
            parts.append(self.quantity())
        return parts[0] if len(parts) == 1 else Node("ratio", tuple(parts))

    def quantity(self) -> Node:
        return UnitReader(self).quantity()


def _without_qualifiers(nodes: list[Node]) -> list[Node]:
    r"""Clauses without those that only say where a variable lies: ``k \in \mathbb{Z}``, and ``x \ne 1`` beside a
    value."""
    if len(nodes) < 2:
        return nodes
    kept = [
        node for node in nodes if not (node.head == "relation" and node.name == "in" and node.args[-1].head == "named")
    ]
    if any(node.head != "relation" or "=" in node.name.split() for node in kept):
        kept = [node for node in kept if not (node.head == "relation" and node.name == "!=")]
    return kept


__all__ = ["Parser", "read", "tidied"]
