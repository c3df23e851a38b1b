"""Atoms: numbers, names, groups, sets, absolute values."""

from __future__ import annotations

from fractions import Fraction

from micota.grading.reading.cursor import NOTHING
from micota.grading.reading.functions import Functions
from micota.grading.reading.nodes import Node, number
from micota.grading.reading.numerals import decimal, in_base
from micota.grading.reading.tokens import Token, UnreadableError
from micota.grading.reading.words import SCALES, number_word, part_of_one

MAX_DIGITS = 1_000
_CALLED = frozenset("fghpqFGHPQTS")
_ALWAYS_CALLED = frozenset("fgh")


class Atoms(Functions):
    """The part of the grammar that reads what has no operator in it, or brackets around it."""

    def atom(self) -> Node:
        token = self.peek()
        self.position += 1
        if token.kind == "number":
            return self._number(token)
        if token.text in ("a", "an") and self._counts_one():
            self.position -= 1
            return self._number_words()
        if token.kind in ("name", "constant"):
            return self._name(token)
        if token.kind == "function" and self.peek().kind == "relation":  # \\text{gcd} = 3
            return Node("symbol", name=token.text)
        if token.kind == "function":
            return self._function(token.text)
        if token.kind == "open":
            return self._group(token.text)
        if token.kind == "set":
            return self._named(token.text)
        if token.kind == "operator" and token.text == "|":
            return self._absolute()
        if token.kind == "begin":
            return self._environment(token.text)
        if token.kind == "command":
            return self._command(token.text)
        if token.kind == "word" and _is_number_word(token.text.lower()):
            if self.depth > 1:
                raise UnreadableError("a number in words in brackets", token.text)
            self.position -= 1
            return self._number_words()
        self.position -= 1
        raise UnreadableError(f"unexpected {token.text or 'end'!r}", token.text if token.kind == "word" else "")

    def _number(self, token: Token) -> Node:
        text = token.text
        if sum(character.isdigit() for character in text) > MAX_DIGITS:
            raise UnreadableError("too many digits")
        node = number(decimal(text))
        if self.peek().kind == "operator" and self.peek().text == "_":
            self.position += 1
            return in_base(text, self._raw())
        after, slash, bottom = self.peek(), self.peek(1), self.peek(2)
        if after.kind == "number" and after.space and slash.text == "/" and bottom.kind == "number":  # 2 2/3
            top, under = decimal(after.text), decimal(bottom.text)
            if text.isdigit() and after.text.isdigit() and bottom.text.isdigit() and top < under:
                self.position += 3
                return number(decimal(text) + top / under)
        return node

    def _raw(self) -> str:
        """The text of a subscript."""
        if not self.take("open", "{"):
            token = self.peek()
            self.position += 1
            return token.text
        parts = []
        while not self.take("close", "}"):
            if self.peek() is NOTHING:
                raise UnreadableError("a subscript is not closed")
            parts.append(self.peek().text)
            self.position += 1
        return "".join(parts)

    def _name(self, token: Token) -> Node:
        name = token.text
        is_plain = True
        while (mark := self.peek()).kind == "operator" and mark.text in ("_", "'"):
            self.position += 1
            name += "_" + self._raw() if mark.text == "_" else "'"
            is_plain = False
        if token.kind == "constant" and is_plain:
            return Node("constant", name=name)
        if self.peek().text == "(" and (name[0] in _CALLED and len(token.text) == 1) and not self.peek().space:
            call = self._call(name)
            if call is not None:
                return call
        return Node("symbol", name=name)

    def _call(self, name: str) -> Node | None:
        """``f(x)``; ``p(1-p)`` is a product."""
        start = self.position
        self.position += 1
        inner = self.items((")",))
        self.expect("close", ")")
        args = inner.args if inner.head == "list" else (inner,)
        if name[0] in _ALWAYS_CALLED or all(part.head in ("symbol", "number") for part in args):
            return Node("call", args, name=name)
        self.position = start
        return None

    def _counts_one(self) -> bool:
        """Whether an article that was just read stands for 1: "a dozen", "a half"."""
        token = self.peek()
        return token.kind == "word" and (token.text in SCALES or part_of_one(token.text) is not None)

    def _number_words(self) -> Node:
        """``two hundred and five``, ``twenty-one``, ``two thirds``, ``three and a half``: the value of a run of
        words."""
        start = self.position
        part = self.fraction_words()
        if part is not None:
            return number(part)
        total = Fraction(self._whole_words())
        if self.position == start:
            raise UnreadableError("a fraction without a numerator", self.peek().text)
        if self.peek().text == "and":
            self.position += 1
            part = self.fraction_words()
            if part is None:
                self.position -= 1
            total += part or 0
        return number(total)

    def _whole_words(self) -> int:
        total = current = 0
        while (token := self.peek()).kind == "word" or token.text in ("and", "a"):
            low = token.text.lower()
            value = number_word(low)
            if low == "and":
                if (not current and not total) or number_word(self.peek(1).text) is None or self._is_fraction_next():
                    break
            elif low == "a":
                if total or current or self.peek(1).text not in SCALES:
                    break
            elif value is not None:
                current += value
            elif low == "hundred":
                current = max(current, 1) * 100
            elif low in SCALES:
                total, current = total + max(current, 1) * SCALES[low], 0
            else:
                break
            self.position += 1
        return total + current

    def _is_fraction_next(self) -> bool:
        start = self.position
        self.position += 1
        is_fraction = self.fraction_words() is not None
        self.position = start
        return is_fraction

    def fraction_words(self) -> Fraction | None:
        """``half``, ``a quarter``, ``two thirds``, ``three-fourths``, consumed; else None."""
        low, behind = self.peek().text.lower(), part_of_one(self.peek(1).text)
        top, _, bottom = low.rpartition("-")
        count = 1 if low in ("a", "an") else number_word(low)
        if low == "half":
            self.position += 1
            return Fraction(1, 2)
        if top and number_word(top) is not None and part_of_one(bottom) is not None:
            self.position += 1
            return Fraction(number_word(top) or 0, part_of_one(bottom) or 1)
        if count is None or behind is None or self.peek(1).kind != "word":
            return None
        self.position += 2
        return Fraction(count, behind)

    def _named(self, name: str) -> Node:
        sign = ""
        if self.take("operator", "_"):
            sign = self._raw()
            return Node("named", name=name + {">0": "+", "<0": "-"}.get(sign, sign))
        if self.take("operator", "^"):
            inner = self.script() if self.peek().text not in ("+", "-") else None
            if inner is None:
                sign = self.peek().text
                self.position += 1
            else:
                sign = repr(inner)
        return Node("named", name=name + sign)

    def _group(self, opening: str) -> Node:
        if opening == "{":
            if self.peek().text == "}":
                self.position += 1
                return self.atom()  # an empty group stands for nothing: {}^\circ
            start = self.position - 1
            node = self.closed("}")
            is_ascii_set = node.head == "list" and start == 0 and self.position == len(self.tokens)
            return Node("set", node.args) if is_ascii_set else node
        if opening == "{}":
            return self._set()
        if opening in ("floor", "ceil"):
            return Node("function", (self.closed(opening),), name=opening)
        closers = {"(": (")", "]"), "[": ("]", ")"), "<": (">",)}[opening]
        if self.peek().text in closers:
            raise UnreadableError("empty brackets")
        node = self.closed(*closers)
        closing = self.tokens[self.position - 1].text
        if node.head == "list" and node.name not in ("or",):
            return Node("tuple", node.args, name=opening + closing)
        if opening + closing not in ("()", "[]"):
            raise UnreadableError("brackets do not match")
        return Node("tuple", (node,), name="[]") if node.head == "tuple" and opening == "[" else node

    def _set(self) -> Node:
        if self.take("close", "{}"):
            return Node("set")
        in_set, self.in_set = self.in_set, True
        bars, self.bars = self.bars, 0
        node = self.items(("{}", "|", ":", "mid"))
        condition = None
        if self.take("relation", "mid") or self.take("operator", "|", ":"):
            condition = self.items(("{}",))
        self.expect("close", "{}")
        self.in_set, self.bars = in_set, bars
        if condition is not None:
            return Node("such", (node, condition))
        return Node("set", node.args if node.head == "list" else (node,))

    def _absolute(self) -> Node:
        self.bars += 1
        bars, self.bars = self.bars, 1
        node = self.sum()
        self.expect("operator", "|")
        self.bars = bars - 1
        return Node("function", (node,), name="abs")


def _is_number_word(low: str) -> bool:
    return (
        number_word(low) is not None
        or low in SCALES
        or part_of_one(low) is not None
        or part_of_one(low.rpartition("-")[2]) is not None
    )
