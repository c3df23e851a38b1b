"""Equality of expressions, equations and inequalities; factored forms."""

from __future__ import annotations

from micota.grading.equality.names import exact_side, is_name, named_value, single
from micota.grading.equality.rules import Comparison, comparer
from micota.grading.equality.scalars import same_scalar
from micota.grading.gold import bare
from micota.grading.reading.nodes import Node, symbols
from micota.grading.values.numeric import agree, numeric, points, same_value
from micota.grading.values.sets import pieces, same_pieces


@comparer("expression")
def same_expression(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """The same mathematics; equations up to a factor; factored where the problem wants factors."""
    if "approx" in node.name.split() and node.head == "relation" and gold.head == "relation":
        node = exact_side(node)
    if gold.head == "relation" and node.head == "relation":
        verdict = same_equation(gold, node, comparison)
        if verdict is not None:
            return verdict
    if gold.head == "relation":
        value = named_value(gold)
        if value is None:
            return False if node.head != "relation" else None
        gold = value
    other = single(node, gold)
    if other is None:
        return False
    if other.head == "relation":
        return False
    verdict = same_scalar(gold, other, comparison)
    if verdict is True and lacks_factors(gold, other, comparison.gold.hints.wants_factors):
        return False
    return verdict


def same_equation(gold: Node, node: Node, comparison: Comparison) -> bool | None:
    """Two equations or inequalities; None where one of them only names a value."""
    if set(gold.name.split()) - {"="} or set(node.name.split()) - {"="}:
        return same_inequality(gold, node)
    names = [part.args[0] if is_name(part.args[0]) else None for part in (gold, node)]
    if names[0] is not None and names[1] is not None:
        if names[0] != names[1] and all(name is not None and name.head == "symbol" for name in names):
            return _proportional(gold, node) if len(gold.args) == len(node.args) == 2 else False
        renamed = _renamed(node.args[-1], names[0], names[1])
        return False if renamed is None else same_scalar(gold.args[-1], renamed, comparison)
    if len(gold.args) == len(node.args) == 2:
        return _proportional(gold, node)
    return None


def _renamed(right: Node, first: Node, second: Node) -> Node | None:
    """``W(n) = 2n`` is ``W(x) = 2x``: the arguments of a function may have other names, but not those of others."""
    if first.head == second.head == "call" and first.name == second.name and len(first.args) == len(second.args):
        names = {
            b.name: a.name
            for a, b in zip(first.args, second.args, strict=True)
            if a.head == b.head == "symbol" and a.name != b.name
        }
        if len(set(names.values())) != len(names) or set(names.values()) & symbols(right) - names.keys():
            return None
        return _substituted(right, names)
    return right


def _substituted(node: Node, names: dict[str, str]) -> Node:
    if node.head == "symbol":
        return node._replace(name=names.get(node.name, node.name))
    return node._replace(args=tuple(_substituted(part, names) for part in node.args))


def _difference(node: Node) -> Node:
    return Node("sum", (node.args[0], Node("negative", (node.args[1],))))


def _proportional(gold: Node, node: Node, *, positive: bool = False) -> bool | None:
    """Whether the differences of the sides of two equations are a constant multiple of each other."""
    left, right = _difference(gold), _difference(node)
    names = sorted(symbols(left) | symbols(right))
    if symbols(left) != symbols(right):
        return False
    ratios = []
    for point, _ in points(names):
        values = numeric(left, point), numeric(right, point)
        if values[0] is None or values[1] is None or values[0] == 0 or values[1] == 0:
            continue
        ratios.append(values[0] / values[1])
    if len(ratios) < 2:
        return None
    return all(agree(ratio, ratios[0]) for ratio in ratios) and (not positive or ratios[0].real > 0)


def same_inequality(gold: Node, node: Node) -> bool | None:
    """Two inequalities, in one variable as sets, in more up to a positive factor."""
    sets = pieces(gold), pieces(node)
    if sets[0] is not None and sets[1] is not None:
        return same_pieces(sets[0], sets[1]) and (
            symbols(gold) == symbols(node) or min(len(symbols(gold)), len(symbols(node))) == 0
        )
    if len(gold.args) != 2 or len(node.args) != 2:
        verdicts = [same_value(a, b) for a, b in zip(gold.args, node.args, strict=False)]
        return (
            len(gold.args) == len(node.args) and gold.name == node.name and all(verdict is True for verdict in verdicts)
        )
    left, right = _upward(gold), _upward(node)
    return left.name == right.name and _proportional(left, right, positive=left.name != "!=")


def _upward(node: Node) -> Node:
    """An inequality with < or <=."""
    if node.name in (">", ">="):
        return Node("relation", node.args[::-1], name=node.name.replace(">", "<"))
    return node


def lacks_factors(gold: Node, node: Node, wants_factors: bool | None) -> bool:
    """Whether the gold is a product of sums that the problem wants, or may want, and the answer is none."""
    if wants_factors is False:
        return False
    return len(_sum_factors(gold)) >= 2 and len(_sum_factors(node)) < 2 and bare(node).head in ("sum", "negative")


def _sum_factors(node: Node) -> list[Node]:
    """The factors of a product that are sums with a variable; powers count as often as their exponent."""
    node = bare(node)
    if node.head == "negative":
        return _sum_factors(node.args[0])
    if node.head == "product":
        return _sum_factors(node.args[0]) + _sum_factors(node.args[1])
    if node.head == "power" and node.args[0].head == "sum" and symbols(node.args[0]) and not symbols(node.args[1]):
        return [node.args[0]] * 2
    return [node] if node.head == "sum" and symbols(node) else []
