"""Sums, products and powers; a product may have no sign between its factors."""

from __future__ import annotations

import re

from micota.grading.reading.atoms import Atoms
from micota.grading.reading.cursor import MAX_DEPTH
from micota.grading.reading.nodes import Node, number, transposed
from micota.grading.reading.tokens import UnreadableError
from micota.grading.reading.units import UnitReader

_TEN = re.compile(r"10(?:\.0)?$")
_COMMANDS = frozenset(["frac", "dfrac", "tfrac", "cfrac", "sqrt", "binom", "dbinom", "tbinom"])


class Arithmetic(Atoms):
    """The part of the grammar between a quantity and an atom."""

    def sum(self) -> Node:
        node = self.product(signed=True)
        while (token := self.peek()).kind == "operator" and token.text in ("+", "-", "pm", "mp"):
            self.position += 1
            term = self.product(signed=True)
            if token.text in ("pm", "mp"):
                node = Node("plusminus", (node, term), name=token.text)
            else:
                node = Node("sum", (node, Node("negative", (term,)) if token.text == "-" else term))
        return node

    def product(self, *, signed: bool = False) -> Node:
        node = self.factor() if signed else self.power()
        while True:
            token = self.peek()
            if token.kind == "operator" and token.text in ("*", "/"):
                self.position += 1
                if token.text == "/" and self.peek().kind == "unit":  # 5 / \text{s}: no value
                    raise UnreadableError("a unit divides")
                other = self.factor()
                node = Node("product" if token.text == "*" else "quotient", (node, other))
            elif self._is_times_ten(node):
                self.position += 1
                node = Node("product", (node, self.factor()))
            elif self.starts_factor():
                node = self.beside(node)
            else:
                return node

    def _is_times_ten(self, node: Node) -> bool:
        """``1.8 x 10^1``: a letter for the sign of multiplication."""
        token, after = self.peek(), self.peek(1)
        return (
            node.head == "number"
            and token.kind == "name"
            and token.text in "xX"
            and after.kind == "number"
            and bool(_TEN.match(after.text))
        )

    def beside(self, node: Node) -> Node:
        """A factor without a sign before it; a number before a proper fraction is a mixed number."""
        is_number = self.peek().kind == "number"
        if is_number and (node.head in ("number", "negative") or self.tokens[self.position - 1].kind == "number"):
            raise UnreadableError("two numbers side by side")
        whole = node.args[0] if node.head == "negative" else node
        is_fraction = self.peek().kind == "command" and self.peek().text in ("frac", "dfrac", "tfrac", "cfrac")
        factor = self.power()
        if (
            is_fraction
            and whole.head == "number"
            and _is_proper(factor)
            and whole.value is not None
            and whole.value.denominator == 1
        ):
            mixed = Node("sum", (whole, factor))
            return Node("negative", (mixed,)) if node.head == "negative" else mixed
        if node.head == "negative":
            return Node("negative", (Node("product", (whole, factor)),))
        return Node("product", (node, factor))

    def starts_factor(self) -> bool:
        """Whether the next token starts a factor that has no sign before it."""
        token = self.peek()
        if token.kind in ("number", "name", "constant", "function", "begin"):
            return True
        if token.kind == "open":
            return token.text != "{}"
        if token.kind == "command":
            return token.text in _COMMANDS and not UnitReader(self).is_unit_fraction()
        return token.kind == "operator" and token.text == "|" and self.bars == 0 and not self.in_set

    def factor(self) -> Node:
        """A power with any number of signs before it."""
        sign = 1
        while token := self.take("operator", "+", "-"):
            sign = -sign if token.text == "-" else sign
        if self.peek().text.lower() in ("negative", "minus") and self.take("word"):
            sign = -sign
        if token := self.take("operator", "pm", "mp"):
            return Node("plusminus", (number(0), self.power()), name=token.text)
        node = self.power()
        return node if sign == 1 else Node("negative", (node,))

    def power(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deep")
        node = self.postfix(self.atom())
        if self.take("operator", "^"):
            node = self.postfix(self.raised(node))
        self.depth -= 1
        return node

    def raised(self, base: Node) -> Node:
        degrees = self._degree_sign()
        if degrees:
            return self._degrees(base)
        if base.head in ("matrix", "tuple") and self._transposes():
            return transposed(base)
        if (self.peek().text in ("T", "*", "'", "prime", "top", "+")) and self.peek().kind in (
            "name",
            "operator",
            "command",
        ):
            raise UnreadableError("a transpose or conjugate", is_mathematics=True)
        return Node("power", (base, self.script()))

    def _transposes(self) -> bool:
        """Whether the exponent that follows is the sign of a transposed matrix; it is consumed then."""
        width = 3 if self.peek().text == "{" and self.peek(2).text == "}" else 1
        if self.peek(width // 2).text not in ("T", "top"):
            return False
        self.position += width
        return True

    def _degree_sign(self) -> bool:
        if self.take("operator", "circ", "degree"):
            return True
        if self.peek().text == "{" and self.peek(1).text in ("circ", "degree") and self.peek(2).text == "}":
            self.position += 3
            return True
        return False

    def _degrees(self, node: Node) -> Node:
        scale = self.peek()
        if scale.kind == "name" and scale.text in ("C", "F") and self.peek(1).kind not in ("name", "number", "open"):
            self.position += 1
            return Node("degrees", (node,), name=scale.text)
        return Node("degrees", (node,))

    def script(self) -> Node:
        """The operand of ``^``: a group, or one atom with a sign."""
        if self.take("open", "{"):
            return self.closed("}")
        sign = self.take("operator", "-", "+")
        node = self.atom()
        if self.take("operator", "^"):
            node = Node("power", (node, self.script()))
        return Node("negative", (node,)) if sign and sign.text == "-" else node

    def postfix(self, node: Node) -> Node:
        while True:
            if self.take("operator", "!"):
                node = Node("function", (node,), name="factorial")
            elif self.peek().kind == "operator" and self.peek().text in ("degree", "circ"):
                self.position += 1
                node = self._degrees(node)
            else:
                return node


def _is_proper(node: Node) -> bool:
    if node.head != "quotient":
        return False
    top, bottom = node.args
    return (
        top.head == bottom.head == "number"
        and top.value is not None
        and bottom.value is not None
        and top.value < bottom.value
    )
