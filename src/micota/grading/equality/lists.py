"""Equality of lists and sets: the same members, each as often, in any order."""

from __future__ import annotations

import re

from micota.grading.equality.equations import same_expression
from micota.grading.equality.names import is_name, named_value, single
from micota.grading.equality.rules import COMPARERS, Comparison, comparer, every
from micota.grading.equality.scalars import same_scalar
from micota.grading.reading.nodes import Node, has, name_of, symbols


@comparer("list")
def same_list(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """The same members, each as often, in any order; members with names by their names."""
    if gold == Node("set"):
        return _without_name(node) == gold
    wanted = members(gold)
    given = members(node)
    if len(given) != len(wanted):
        given = _unwrapped(node, wanted, opens="[" if gold.head == "set" else "([")
    if len(given) != len(wanted):
        return False
    given = _without_indices(wanted, given)
    named = by_name(wanted), by_name(given)
    if named[0] is not None and named[1] is not None and named[0].keys() == named[1].keys():
        return every([same_member(named[0][name], named[1][name], comparison) for name in named[0]])
    if named[0] is not None and named[1] is not None and not any(part.args[0].head == "symbol" for part in wanted):
        return False  # angles or lengths of other names
    if named[0] is not None and named[1] is None and all(part.head != "relation" for part in given):
        return every(
            [same_member(value, part, comparison) for value, part in zip(named[0].values(), given, strict=True)]
        )
    return matched(wanted, given, comparison)


def _without_name(node: Node) -> Node:
    """What is named: the set of ``S = \\emptyset``."""
    return (named_value(node) or node) if node.head == "relation" else node


def members(node: Node) -> list[Node]:
    """The members of a list or set, with both values of ``\\pm``."""
    if (
        node.head == "relation"
        and set(node.name.split()) <= {"=", "in"}
        and not (
            is_name(node.args[0])
            and node.args[-1].head not in ("set", "plusminus")
            and not has(node.args[-1], "plusminus")
        )
    ):
        value = named_value(node)
        if value is not None:
            return members(value)
    if node.head == "relation" and has(node, "plusminus"):
        return [node._replace(args=(*node.args[:-1], value)) for value in members(node.args[-1])]
    if node.head in ("list", "set"):
        return (
            [member for part in _spread(node.args) for member in members(part)]
            if any(map(_is_nested, node.args))
            else list(_spread(node.args))
        )
    if node.head == "union" and all(part.head == "set" for part in node.args):
        return members(node.args[0]) + members(node.args[1])
    if has(node, "plusminus") and node.head != "tuple":
        return [_with_sign(node, 1), _with_sign(node, -1)]
    return [node]


def _is_nested(node: Node) -> bool:
    return node.head in ("set", "list") or (has(node, "plusminus") and node.head != "tuple")


def _spread(parts: tuple[Node, ...]) -> tuple[Node, ...]:
    """``x = 4, -8, -10``: a name before the first of several values names all of them."""
    named = [part for part in parts if part.head == "relation"]
    if len(named) == 1 and parts[0] is named[0] and parts[0].name == "=" and len(parts) > 1:
        value = named_value(parts[0])
        return (value, *parts[1:]) if value is not None and not symbols(value) & symbols(parts[0].args[0]) else parts
    return parts


def _with_sign(node: Node, sign: int) -> Node:
    if node.head == "plusminus":
        left, right = (_with_sign(part, sign) for part in node.args)
        is_plus = (sign > 0) == (node.name == "pm")
        return Node("sum", (left, right if is_plus else Node("negative", (right,))))
    return node._replace(args=tuple(_with_sign(part, sign) for part in node.args))


def _unwrapped(node: Node, wanted: list[Node], opens: str) -> list[Node]:
    """``(1, 2, 3)`` or ``[1, 2, 3]`` as a list, where the gold's members are no tuples; in one of the brackets
    ``opens``."""
    node = named_value(node) or node if node.head == "relation" else node
    if (
        node.head == "tuple"
        and node.name in ("()", "[]")
        and node.name[0] in opens
        and not any(part.head == "tuple" for part in wanted)
    ):
        return [member for part in node.args for member in members(part)]
    if node.head == "set" and len(node.args) == 1:
        return _unwrapped(node.args[0], wanted, opens)
    return []


def _without_indices(wanted: list[Node], given: list[Node]) -> list[Node]:
    """``x_1 = 1, x_2 = 2`` as values of x, where the gold has no such names."""
    sides = [part.args[0] for part in given if part.head == "relation" and part.name == "="]
    if len(sides) < len(given) or not all(side.head == "symbol" and re.search(r"_\d+$", side.name) for side in sides):
        return given
    letters = {side.name.partition("_")[0] for side in sides}
    if len(letters) > 1 or len({side.name for side in sides}) < len(sides):
        return given
    if any("_" in name for part in wanted for name in symbols(part)):
        return given
    if any(part.head == "relation" and part.args[0].name not in letters for part in wanted):
        return given
    return [part.args[-1] if not any(p.head == "relation" for p in wanted) else _named(letters, part) for part in given]


def _named(letters: set[str], part: Node) -> Node:
    return part._replace(args=(Node("symbol", name=next(iter(letters))), *part.args[1:]))


def by_name(parts: list[Node]) -> dict[str, Node] | None:
    """The values of members that all have names, each another; else None."""
    values: dict[str, Node] = {}
    for part in parts:
        if (
            part.head != "relation"
            or part.name != "="
            or part.args[0].head not in ("symbol", "call", "product", "function")
        ):
            return None
        name = name_of(part.args[0]) if part.args[0].head in ("symbol", "call") else repr(part.args[0])
        if name in values:
            return None
        values[name] = part.args[1]
    return values


def matched(golds: list[Node], given: list[Node], comparison: Comparison) -> bool | None:
    """Whether members can be paired with golds. Equality is transitive except for tolerances, so the first match is
    taken."""
    free = list(given)
    for gold in golds:
        verdicts = [same_member(gold, member, comparison) for member in free]
        if True not in verdicts:
            return None if None in verdicts else False
        del free[verdicts.index(True)]
    return True


def same_member(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    if gold.head in ("tuple", "set", "matrix"):
        return COMPARERS["tuple"](gold, node, comparison)
    if gold.head == "relation" and node.head == "relation":
        return same_expression(gold, node, comparison)
    if gold.head == "relation":
        value = named_value(gold)
        return False if value is None else same_member(value, node, comparison)
    other = single(node, gold)
    return False if other is None or other.head == "relation" else same_scalar(gold, other, comparison)
