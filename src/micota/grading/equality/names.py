"""The value of an answer that names it: ``x = 5``, ``2 = x``, ``4/3 \\approx 1.33``."""

from __future__ import annotations

from micota.grading.gold import bare
from micota.grading.reading.nodes import Node, number, symbols, walk
from micota.grading.reading.units import same_unit
from micota.grading.values.exact import exact
from micota.grading.values.numeric import real


def single(node: Node, gold: Node) -> Node | None:
    """The one value of an answer: of ``x = 5``, ``2 = x``, ``4/3 \\approx 1.33``, ``\\{5\\}``; None where it has
    several."""
    if node.head == "relation":
        signs = node.name.split()
        if "approx" in signs:
            return _of_approximation(node, signs, gold)
        if set(signs) <= {"to"}:
            return node.args[-1]
        if set(signs) <= {"=", "equiv"}:
            return node if gold.head == "relation" else _of_chain(node, gold)
        if signs == ["in"] and node.args[1].head in ("set", "tuple"):
            return single(node.args[1], gold)
        return None
    if node.head == "set":
        return single(node.args[0], gold) if len(node.args) == 1 else None
    if node.head == "list":
        return node.args[0] if node.name == "or" and _is_restated(node) else None
    return None if node.head == "plusminus" else node


def _is_restated(node: Node) -> bool:
    """Whether all alternatives are one value: ``12, or a dozen``, ``5 km or 5000 m``."""
    first, *others = node.args
    value = exact(bare(first))
    for other in others:
        scale = same_unit(first, other)
        second = exact(bare(other))
        is_same = value is not None and second is not None and scale is not None and value == second * scale
        if not is_same and not is_rounded(other, first):
            return False
    return True


def is_rounded(node: Node, value: Node) -> bool:
    """Whether a decimal or a percentage is what rounding leaves of another value: 1.67 of 5/3, 50% of 0.5."""
    rounded, exact_value = exact(bare(node)), real(bare(value))
    if rounded is None or exact_value is None:
        return False
    is_percent = node.head == "quantity" and node.name == "%" and value.head != "quantity"
    digits = next((count for count in range(12) if (rounded * 10**count).denominator == 1), None)
    if digits is None or (digits == 0 and not is_percent):
        return False
    scale = 100 if is_percent else 1
    return bool(2 * abs(exact_value * scale - real(number(rounded))) * 10**digits <= 1)


def _of_chain(node: Node, gold: Node) -> Node | None:
    """The value at the end of ``x = 5``, ``3 + 4 = 7``, ``2 = x``; an equation such as ``5x - 17 = 0`` has none."""
    last, first = node.args[-1], node.args[0]
    if last.head in ("symbol", "call") and not symbols(first):
        return first
    if exact(last) == 0 and not is_name(first) and symbols(first):
        return None
    if last.head == "list":
        return None
    before = node.args[-2]
    if is_rounded(last, before) and exact(bare(last)) != exact(bare(gold)):
        return _of_chain(node._replace(args=node.args[:-1]), gold) if len(node.args) > 2 else before
    return last


def _of_approximation(node: Node, signs: list[str], gold: Node) -> Node | None:
    """Of ``4/3 \\approx 1.33`` the exact side; the rounded one where the gold is rounded."""
    at = signs.index("approx")
    sides = [_joined(node.args[: at + 1], signs[:at]), _joined(node.args[at + 1 :], signs[at + 1 :])]
    values = [single(side, gold) for side in sides]
    if values[0] is None or is_name(values[0]) or values[0].head == "symbol":
        return values[1]
    if values[1] is not None and exact(bare(gold)) is not None and exact(bare(values[1])) == exact(bare(gold)):
        return values[1]
    return values[0]


def exact_side(node: Node) -> Node:
    """What stands before the first sign of approximation."""
    signs = node.name.split()
    at = signs.index("approx")
    return _joined(node.args[: at + 1], signs[:at])


def _joined(parts: tuple[Node, ...], signs: list[str]) -> Node:
    return (
        parts[0]
        if len(parts) == 1
        else Node("relation", parts, name=" ".join(sign if sign != "approx" else "=" for sign in signs))
    )


def is_name(node: Node) -> bool:
    """Whether a left side only names what follows: ``x``, ``f(x)``, ``(x, y)``, ``AB``, ``|AB|``, ``A:B``."""
    if node.head in ("symbol", "call"):
        return True
    if node.head in ("tuple", "ratio", "quotient", "list"):
        return all(map(is_name, node.args))
    if node.head == "function":
        return node.name in ("abs", "angle", "max", "min", "det", "deg", "arg", "Pr", "gcd", "lcm", "Re", "Im") and all(
            map(is_name, node.args)
        )
    if node.head == "constant":
        return node.name in ("e", "i")
    return node.head == "product" and all(
        part.head in ("product", "symbol", "constant") and (part.head != "symbol" or part.name[0].isupper())
        for part in walk(node)
    )


def named_value(node: Node) -> Node | None:
    """The right side of ``x = 5``; None for an equation that is itself the answer."""
    if set(node.name.split()) <= {"=", "approx"} and is_name(node.args[0]):
        return node.args[-1]
    if node.name == "=" and node.args[1].head in ("symbol", "call") and not symbols(node.args[0]):
        return node.args[0]
    return node.args[-1] if node.name == "in" else None
