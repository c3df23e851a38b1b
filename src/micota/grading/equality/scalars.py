"""Equality of single values, with their units, bases and tolerances."""

from __future__ import annotations

from typing import Any

from micota.grading.equality.names import single
from micota.grading.equality.rules import COMPARERS, Comparison, comparer
from micota.grading.gold import Gold, bare
from micota.grading.reading.nodes import Node, has, number
from micota.grading.reading.numerals import decimal
from micota.grading.reading.units import same_unit
from micota.grading.values.exact import exact
from micota.grading.values.numeric import numeric, same_value


@comparer("number", "integer")
def same_number(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """One value; ``integer`` takes only what is written as one."""
    other = single(node, gold)
    if other is None:
        return False
    if comparison.gold.kind == "integer":
        value = exact(bare(other))
        return value is not None and value == exact(bare(gold)) and not has(other, "function", "base")
    return same_scalar(gold, other, comparison)


def same_scalar(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """The same value in the same unit, where both have one."""
    gold, node = signed_unit(gold), signed_unit(node)
    if gold.head == "matrix" or node.head == "matrix":
        return COMPARERS["matrix"](gold, node, comparison)
    if gold.head == "base":  # the digits may stand without their base, which the problem names
        digits = node.name if node.head == "base" else _digits(node)
        return digits == gold.name and (node.head != "base" or node.value == gold.value)
    if node.head == "base" and node.value == 10:
        node = number(decimal(node.name))
    if node.head in ("base", "set", "list", "tuple", "named", "union") or has(node, "plusminus"):
        return False
    if gold.head == "ratio" or node.head == "ratio":
        return _same_ratio(gold, node)
    scale = same_unit(gold, node)
    if scale is None:
        return False
    left, right = bare(gold), bare(node)
    if scale != 1:
        right = Node("product", (right, number(scale)))
    if comparison.gold.tolerance is not None:
        return _is_close(left, right, comparison.gold)
    return same_value(left, right)


def signed_unit(node: Node) -> Node:
    """``-90^\\circ`` as a quantity of -90."""
    if node.head == "negative" and node.args[0].head in ("quantity", "degrees"):
        inner = node.args[0]
        return inner._replace(args=(Node("negative", (inner.args[0],)),))
    return node


def _digits(node: Node) -> str:
    value = exact(node)
    if value is None:
        return ""
    return str(value.numerator) if value.denominator == 1 else str(float(value))


def _is_close(gold: Node, node: Node, declared: Gold) -> bool | None:
    assert declared.tolerance is not None
    expected, actual = exact(gold), exact(node)
    if expected is None or actual is None:
        values = numeric(gold, {}), numeric(node, {})
        if values[0] is None or values[1] is None:
            return None
        margin: Any = numeric(number(declared.tolerance), {})
        return bool(abs(values[0] - values[1]) <= margin * (abs(values[0]) if declared.is_relative else 1))
    return abs(expected - actual) <= declared.tolerance * (abs(expected) if declared.is_relative else 1)


def _same_ratio(gold: Node, node: Node) -> bool | None:
    """``3:5`` is ``6:10`` and 3/5."""
    first, second = (part.args if part.head == "ratio" else (part, number(1)) for part in (bare(gold), bare(node)))
    if len(first) != len(second):
        return False
    verdicts = [
        same_value(Node("product", (first[0], right)), Node("product", (second[0], left)))
        for left, right in zip(first[1:], second[1:], strict=True)
    ]
    return False if False in verdicts else None if None in verdicts else True
