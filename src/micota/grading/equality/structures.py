"""Equality of tuples, vectors, matrices and sets of real numbers."""

from __future__ import annotations

from micota.grading.equality.equations import same_inequality
from micota.grading.equality.lists import by_name, matched, members, same_list, same_member
from micota.grading.equality.names import is_name
from micota.grading.equality.rules import Comparison, comparer, every
from micota.grading.reading.lexicon import ORDER
from micota.grading.reading.nodes import Node, matrix, symbols
from micota.grading.values.linear import evaluated
from micota.grading.values.numeric import same_value
from micota.grading.values.sets import pieces, same_pieces


@comparer("tuple", "matrix")
def same_tuple(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """The same entries in the same order and the same brackets; a vector may be a tuple, a column or a row."""
    node = _without_name(node)
    gold = _without_name(gold)
    if gold.head == "tuple" and len(gold.args) == 2 and gold.name == "()" and _is_real_set(node):
        return same_sets(gold, node)  # an open interval against an inequality
    if gold.head == "tuple" and node.head == "list":
        return _same_named_coordinates(gold, node, comparison)
    return _same_structure(gold, node, comparison)


def _is_real_set(node: Node) -> bool:
    if node.head == "list":
        return node.name == "and" and all(
            part.head == "relation" and set(part.name.split()) <= ORDER for part in node.args
        )
    return node.head in ("such", "named", "union", "minus") or (
        node.head == "relation" and set(node.name.split()) <= ORDER
    )


def _without_name(node: Node) -> Node:
    if node.head == "relation" and node.name in ("=", "in") and is_name(node.args[0]):
        node = node.args[1]
    if node.head == "set" and len(node.args) == 1 and node.args[0].head in ("tuple", "matrix"):
        return node.args[0]
    return _point(node)


def _point(node: Node) -> Node:
    """The coordinates of ``P(1, -2)``: a capital letter names a point."""
    if node.head == "call" and node.name[0].isupper() and len(node.args) > 1:
        return Node("tuple", node.args, name="()")
    if node.head == "product" and node.args[1].head == "tuple":
        name = node.args[0]
        if name.head == "symbol" and name.name[0].isupper():
            return node.args[1]
    return node


def _same_named_coordinates(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """``x = 5, y = 7`` for ``(5, 7)``, if the names are in the order of the alphabet."""
    named = by_name(list(node.args))
    if named is None or len(named) != len(gold.args) or list(named) != sorted(named):
        return False
    return every([same_member(part, value, comparison) for part, value in zip(gold.args, named.values(), strict=True)])


def _same_structure(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    left, right = evaluated(gold), evaluated(node)
    if left.head == "matrix" or right.head == "matrix":
        left, right = _as_matrix(left, right), _as_matrix(right, left)
        if left.name != right.name:
            return False
    elif (
        left.head != right.head
        or len(left.args) != len(right.args)
        or (left.head == "tuple" and _brackets(left) != _brackets(right))
    ):
        return False
    if left.head == "set":
        return matched(members(left), members(right), comparison)
    if left.head not in ("tuple", "matrix"):
        return same_value(left, right)
    return every([same_member(part, other, comparison) for part, other in zip(left.args, right.args, strict=True)])


def _brackets(node: Node) -> str:
    return "()" if node.name == "<>" else node.name


def _as_matrix(node: Node, other: Node) -> Node:
    """A tuple as the column or row that it is compared with; nested tuples as rows."""
    if node.head != "tuple" or other.head != "matrix":
        return node
    if all(part.head == "tuple" for part in node.args) and len({len(part.args) for part in node.args}) == 1:
        return matrix([list(part.args) for part in node.args])
    if node.name not in ("()", "<>", "[]"):
        return node
    rows = other.name.split("x")
    return matrix([list(node.args)]) if rows[0] == "1" else matrix([[part] for part in node.args])


@comparer("interval")
def same_interval(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """The same set of real numbers, as intervals or inequalities: brackets and ends alike, unions in any order."""
    verdict = same_sets(gold, node)
    if verdict is not None:
        return verdict
    gold, node = _without_name(gold), _without_name(node)
    if gold.head == node.head == "relation":
        return same_inequality(gold, node)
    if gold.head in ("union", "intersection", "minus") and gold.head == node.head:
        parts = _flat(gold), _flat(node)
        if len(parts[0]) != len(parts[1]):
            return False
        return matched(*parts, comparison)
    if gold.head == "tuple" and node.head == "tuple":
        return _same_structure(gold, node, comparison)
    if gold.head == "list" and node.head in ("list", "union"):
        return same_list(gold, node, comparison)
    return (
        True
        if gold == node
        else False
        if node.head in ("number", "symbol", "sum", "product", "tuple", "list")
        else None
    )


def _flat(node: Node) -> list[Node]:
    return [inner for part in node.args for inner in (_flat(part) if part.head == node.head == "union" else [part])]


def same_sets(gold: Node, node: Node) -> bool | None:
    left = pieces(gold)
    if left is None:
        return None
    right = pieces(node)
    if right is None:
        return None
    names = symbols(gold), symbols(node)
    return same_pieces(left, right) and (len(names[0] | names[1]) <= 1 or not names[0] or not names[1])
