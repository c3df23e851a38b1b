r"""Quantities: a value with its unit, a price, a percentage, several units (``5 ft 6 in``)."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from micota.grading.reading.nodes import Node, number
from micota.grading.reading.tokens import UnreadableError
from micota.grading.reading.words import ADJECTIVES, POWERS, SCALES, TRAILING, is_short_unit

if TYPE_CHECKING:
    from micota.grading.reading.arithmetic import Arithmetic

CURRENCIES = frozenset(["$", "€", "£", "¥", "₹", "₽"])
# Units that add up to one quantity, each with its size in the smallest.
COMPOUNDS = (
    {"week": 604_800, "day": 86_400, "h": 3_600, "min": 60, "s": 1}, {"year": 12, "month": 1},
    {"mi": 63_360, "yd": 36, "ft": 12, "in": 1}, {"km": 1_000_000, "m": 1_000, "cm": 10, "mm": 1},
    {"$": 100, "cent": 1}, {"lb": 16, "oz": 1}, {"kg": 1_000, "g": 1}, {"gal": 16, "qt": 4, "pt": 2, "cup": 1},
    {"L": 1_000, "mL": 1},
)  # fmt: skip
_SPEEDS = {"mph": {"mi": 1, "h": -1}, "kmh": {"km": 1, "h": -1}}


class UnitReader:
    """The part of the grammar that reads units; works on the tokens of a parser."""

    def __init__(self, parser: Arithmetic) -> None:
        self.parser = parser

    def quantity(self) -> Node:
        """A sum and its unit."""
        price = self._price()
        if price is not None:
            return price
        node = self._with_part(self._scaled(self.parser.sum()))
        unit = self._unit()
        if unit:
            node = self._compound(Node("quantity", (node,), name=unit))
        return node

    def _with_part(self, node: Node) -> Node:
        """``5 and a half``: a whole number and a part in words."""
        if node.head != "number" or self.parser.peek().text != "and":
            return node
        self.parser.position += 1
        part = self.parser.fraction_words()
        if part is None:
            self.parser.position -= 1
            return node
        return Node("sum", (node, number(part)))

    def _price(self) -> Node | None:
        parser = self.parser
        start = parser.position
        sign = parser.take("operator", "-")
        token = parser.take("unit")
        if token is None or token.text not in CURRENCIES:
            parser.position = start
            return None
        value = self._scaled(parser.sum())
        value = Node("negative", (value,)) if sign else value
        after = self._unit()
        if after and after not in (token.text, "u"):
            if token.text == "$" and after.startswith("$"):
                return Node("quantity", (value,), name=after)
            if "*" in after or "^" in after or after in CURRENCIES or after == "cent":
                raise UnreadableError("two units")
        return Node("quantity", (value,), name=token.text)

    def _scaled(self, node: Node) -> Node:
        """The value times the words of size behind it: ``5 million``, ``3 dozen``."""
        while (token := self.parser.peek()).kind == "word" and token.text.lower() in SCALES:
            self.parser.position += 1
            node = Node("product", (node, number(SCALES[token.text.lower()])))
        return node

    def _unit(self) -> str:
        """The canonical name of the unit at this position, consumed; "" where there is none."""
        parser = self.parser
        powers: dict[str, int] = {}
        if parser.take("operator", "%"):
            powers["%"] = 1
        sign = 1
        while True:
            start = parser.position
            factor = self._unit_factor()
            if factor is None:
                parser.position = start
                break
            for name, power in factor.items():
                powers[name] = powers.get(name, 0) + sign * power
            sign = 1
            if parser.peek().text in ("/", "per"):
                parser.position += 1
                sign = -1
                if parser.peek().kind != "unit" and not self._is_letter():
                    raise UnreadableError(
                        "a unit is missing", parser.peek().text if parser.peek().kind == "word" else ""
                    )
            elif parser.peek().text == "*" and (
                parser.peek(1).kind == "unit" or (parser.peek(1).is_text and is_short_unit(parser.peek(1).text))
            ):
                parser.position += 1
        if powers and parser.peek().kind == "word" and parser.peek().text.lower() in TRAILING:
            parser.position += 1
        if not powers and parser.peek().kind == "name" and self._is_letter() and parser.peek().is_text:
            return ""
        return "*".join(name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items()) if power)

    def _unit_factor(self) -> dict[str, int] | None:
        parser = self.parser
        if parser.peek().kind == "command" and parser.peek().text in ("frac", "dfrac", "tfrac"):
            return self._unit_fraction()
        power = 1
        while (word := parser.peek()).kind == "word" and word.text.lower() in POWERS.keys() | ADJECTIVES:
            power *= POWERS.get(word.text.lower(), 1)
            parser.position += 1
        token = parser.peek()
        if (
            (token.kind == "unit" and token.text not in CURRENCIES)
            or (token.kind == "unit" and parser.position > 0)
            or (self._is_letter() and parser.position and parser.tokens[parser.position - 1].text in ("/", "per", "*"))
        ):
            parser.position += 1
        else:
            return None
        power *= self._unit_power()
        return {name: size * power for name, size in _SPEEDS.get(token.text, {token.text: 1}).items()}

    def _unit_power(self) -> int:
        parser = self.parser
        if parser.take("operator", "^"):
            value = parser.script()
            sign = -1 if value.head == "negative" else 1
            value = value.args[0] if value.head == "negative" else value
            if value.head != "number" or value.value is None or value.value.denominator != 1 or value.value > 9:
                raise UnreadableError("the power of a unit")
            return sign * int(value.value)
        token = parser.peek()
        if token.kind == "number" and not token.space and token.text in ("2", "3"):
            parser.position += 1
            return int(token.text)
        if token.kind == "word" and token.text.lower() in ("squared", "cubed"):
            parser.position += 1
            return POWERS[token.text.lower()]
        return 1

    def _is_letter(self) -> bool:
        token = self.parser.peek()
        return token.kind in ("name", "constant") and is_short_unit(token.text)

    def is_unit_fraction(self) -> bool:
        """Whether a fraction of units, not of numbers, comes next."""
        start = self.parser.position
        found = self.parser.peek().text != "sqrt" and self._unit_fraction() is not None
        self.parser.position = start
        return found

    def _unit_fraction(self) -> dict[str, int] | None:
        r"""``\frac{\text{m}}{\text{s}}``."""
        parser = self.parser
        start = parser.position
        parser.position += 1
        powers: dict[str, int] = {}
        for sign in (1, -1):
            if not parser.take("open", "{"):
                break
            token = parser.peek()
            if token.kind != "unit" and not (self._is_letter() and token.is_text):
                break
            parser.position += 1
            powers[token.text] = powers.get(token.text, 0) + sign * self._unit_power()
            if not parser.take("close", "}"):
                break
        else:
            return powers
        parser.position = start
        return None

    def _compound(self, first: Node) -> Node:
        """``5 ft 6 in``, ``2 hours and 30 minutes`` as one quantity in the smallest unit of its kind."""
        parser = self.parser
        sizes = next((table for table in COMPOUNDS if first.name in table), None)
        parts = [first]
        while sizes is not None:
            start = parser.position
            while parser.peek().text in ("and", ","):
                parser.position += 1
            if parser.peek().kind != "number":
                parser.position = start
                break
            try:
                value = parser.sum()
                unit = self._unit()
            except UnreadableError:
                unit = ""
            if unit not in sizes or sizes[unit] >= sizes[parts[-1].name]:
                parser.position = start
                break
            parts.append(Node("quantity", (value,), name=unit))
        if len(parts) == 1:
            return first
        assert sizes is not None
        smallest = next(name for name, size in sizes.items() if size == 1)
        total = number(0)
        for part in parts:
            total = Node("sum", (total, Node("product", (part.args[0], number(Fraction(sizes[part.name]))))))
        return Node("quantity", (total,), name=smallest)


def same_unit(gold: Node, node: Node) -> Fraction | None:
    """The factor from the unit of an answer to that of the gold: 1 where they are the same or one of them has none,
    12 for feet where the gold has inches; None where they are of different kinds."""
    left, right = unit(gold), unit(node)
    if not left or not right or left == right:
        return Fraction(1)
    generic = re.sub(r"\b[a-z]+\b|[^\W\d]+|\$", "u", left), re.sub(r"[^\W\d]+|\$", "u", right)
    if (generic[1] == left or generic[0] == right) and "u" in (left.split("^")[0], right.split("^")[0]):
        return Fraction(1)  # "units", "square units"
    sizes = next((table for table in COMPOUNDS if left in table and right in table), None)
    return None if sizes is None else Fraction(sizes[right], sizes[left])


def unit(node: Node) -> str:
    """The canonical name of the unit of a quantity; "" where it has none."""
    if node.head == "degrees":
        return "°" + node.name
    return node.name if node.head == "quantity" else ""
