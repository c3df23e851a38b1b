r"""Sets of real numbers: intervals, unions, inequalities and ``\mathbb{R} \setminus \{1\}`` as sorted pieces.

Two of them are equal if their pieces are: the same ends (to 35 digits) and the same brackets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from micota.grading.reading.nodes import Node, number, symbols
from micota.grading.values.numeric import agree, numeric, points, real

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
MAX_PIECES = 100


class Piece(NamedTuple):
    """An interval; ``low`` and ``high`` are numbers of 50 digits or infinite, and tell whether they belong to it."""

    low: Any
    has_low: bool
    high: Any
    has_high: bool


class NotASetError(Exception):
    """A node that is no set of real numbers in one variable."""


def pieces(node: Node) -> list[Piece] | None:
    """The pieces of a set of real numbers in order, merged where they touch; None where the node is no such set."""
    try:
        return _merged(_Reader(node).pieces(node))
    except NotASetError:
        return None


def same_pieces(left: list[Piece], right: list[Piece]) -> bool:
    """Whether two sets are equal."""
    return len(left) == len(right) and all(
        first.has_low == second.has_low
        and first.has_high == second.has_high
        and _same(first.low, second.low)
        and _same(first.high, second.high)
        for first, second in zip(left, right, strict=True)
    )


def _same(left: Any, right: Any) -> bool:
    return left == right or agree(left, right)


class _Reader:
    def __init__(self, node: Node) -> None:
        self.names = symbols(node)

    def pieces(self, node: Node) -> list[Piece]:
        head = node.head
        if head == "tuple" and len(node.args) == 2 and node.name != "<>":
            low, high = (self._end(part) for part in node.args)
            if low > high:
                raise NotASetError
            # A bracket at infinity is kept as written: [1, oo] is another answer than [1, oo).
            return [Piece(low, node.name[0] == "[", high, node.name[1] == "]")]
        if head == "set":
            return [Piece(end, True, end, True) for end in map(self._end, node.args)]
        if head == "named" and node.name in _RAYS:
            return _RAYS[node.name]()
        if head == "union":
            return self.pieces(node.args[0]) + self.pieces(node.args[1])
        if head == "intersection":
            return _common(self.pieces(node.args[0]), self.pieces(node.args[1]))
        if head == "minus":
            return _common(self.pieces(node.args[0]), _outside(self.pieces(node.args[1])))
        if head == "such":
            return self._such(node)
        if head == "relation":
            return self._relation(node)
        if head == "list":
            return self._list(node)
        raise NotASetError

    def _end(self, node: Node) -> Any:
        if symbols(node):
            raise NotASetError
        value = real(node)
        if value is None:
            raise NotASetError
        return value

    def _list(self, node: Node) -> list[Piece]:
        """``x < 1 or x > 2``, ``x < 2 and x >= 1``; behind a comma, both if they can hold at once."""
        if (
            not all(part.head == "relation" or part.head in ("union", "such") for part in node.args)
            and not (
                node.name in ("or", "and")
                and all(part.head in ("tuple", "set", "relation", "union") for part in node.args)
            )
            and not all(part.head == "tuple" for part in node.args)
        ):
            raise NotASetError
        parts = [_merged(self.pieces(part)) for part in node.args]
        common = parts[0]
        for part in parts[1:]:
            common = _merged(_common(common, part))
        is_relation = all(part.head == "relation" for part in node.args)
        if node.name == "or" or not is_relation or not common:
            if node.name == "and" and is_relation:
                return common
            return [piece for part in parts for piece in part]
        return common

    def _such(self, node: Node) -> list[Piece]:
        element, condition = node.args
        if element.head == "relation" and element.name == "in":
            return _common(self.pieces(element.args[1]), self.pieces(condition))
        if element.head != "symbol":
            raise NotASetError
        return self.pieces(condition)

    def _relation(self, node: Node) -> list[Piece]:
        signs = node.name.split()
        if signs == ["in"]:
            return self.pieces(node.args[1])
        if signs == ["notin"]:
            return _outside(self.pieces(node.args[1]))
        if signs == ["="]:
            left, right = node.args
            if left.head == "symbol" and not symbols(right):
                return (
                    [Piece(self._end(right), True, self._end(right), True)]
                    if right.head != "set"
                    else self.pieces(right)
                )
            raise NotASetError
        result = [_everything()]
        for index, sign in enumerate(signs):
            result = _common(result, self._inequality(node.args[index], sign, node.args[index + 1]))
        return result

    def _inequality(self, left: Node, sign: str, right: Node) -> list[Piece]:
        """The solutions of an inequality that is linear in its only variable."""
        names = symbols(left) | symbols(right)
        if len(names) != 1 or sign not in ("<", ">", "<=", ">=", "!="):
            raise NotASetError
        for side, end, turned in ((left, right, sign), (right, left, _FLIPPED.get(sign, sign))):
            if side.head == "function" and side.name == "abs" and not symbols(end) and sign != "!=":
                return self._absolute(side.args[0], turned, end)
        infinite = _infinity()
        for side, end, turned in ((left, right, sign), (right, left, _FLIPPED.get(sign, sign))):
            if side.head == "constant" or (end.head == "constant" and end.name == "infinity"):
                continue
            if end.head == "negative" and end.args[0].head == "constant" and end.args[0].name == "infinity":
                continue
            if side.head in ("symbol", "call") and not symbols(end):
                return _half(self._end(end), turned)
        for part in (left, right):
            if real(part) in (infinite, -infinite):
                return [_everything()]
        root, slope = _linear(Node("sum", (left, Node("negative", (right,)))), next(iter(names)))
        return _half(root, sign if slope > 0 or sign == "!=" else _FLIPPED[sign])

    def _absolute(self, inside: Node, sign: str, end: Node) -> list[Piece]:
        """``|x - 1| <= 2`` as both of its bounds; with > as either."""
        low = self._inequality(inside, _FLIPPED[sign], Node("negative", (end,)))
        high = self._inequality(inside, sign, end)
        return _common(low, high) if sign in ("<", "<=") else low + high


def _linear(node: Node, name: str) -> tuple[Any, Any]:
    """The root and slope of a linear function of one variable."""
    values: list[Any] = [numeric(node, {name: real(number(at))}) for at in (0, 1, 2, 5)]
    if any(value is None or value.imag != 0 for value in values):
        raise NotASetError
    at = [value.real for value in values]
    slope = at[1] - at[0]
    if slope == 0 or not agree(at[2] - at[1], slope) or not agree(at[3] - at[0], 5 * slope):
        raise NotASetError
    return -at[0] / slope, slope


def _half(end: Any, sign: str) -> list[Piece]:
    infinite = _infinity()
    if sign == "!=":
        return [Piece(-infinite, False, end, False), Piece(end, False, infinite, False)]
    if sign in ("<", "<="):
        return [Piece(-infinite, False, end, sign == "<=")]
    return [Piece(end, sign == ">=", infinite, False)]


def _infinity() -> Any:
    return real(Node("constant", name="infinity"))


def _everything() -> Piece:
    return Piece(-_infinity(), False, _infinity(), False)


_RAYS: dict[str, Callable[[], list[Piece]]] = {
    "R": lambda: [_everything()],
    "R>=0": lambda: [Piece(real(number(0)), True, _infinity(), False)],
    "R<=0": lambda: [Piece(-_infinity(), False, real(number(0)), True)],
    "R+": lambda: [Piece(real(number(0)), False, _infinity(), False)],
    "R-": lambda: [Piece(-_infinity(), False, real(number(0)), False)],
}


def _common(left: list[Piece], right: list[Piece]) -> list[Piece]:
    result = []
    for first in left:
        for second in right:
            low, has_low = max((first.low, not first.has_low), (second.low, not second.has_low))
            high, has_high = min((first.high, first.has_high), (second.high, second.has_high))
            piece = Piece(low, not has_low, high, has_high)
            if low < high or (low == high and not has_low and has_high):
                result.append(piece)
    if len(result) > MAX_PIECES:
        raise NotASetError
    return result


def _outside(parts: list[Piece]) -> list[Piece]:
    result = [_everything()]
    for piece in parts:
        sides = [
            Piece(-_infinity(), False, piece.low, not piece.has_low),
            Piece(piece.high, not piece.has_high, _infinity(), False),
        ]
        result = _common(result, [side for side in sides if side.low < side.high])
    return result


def _merged(parts: list[Piece]) -> list[Piece]:
    if len(parts) > MAX_PIECES:
        raise NotASetError
    ordered = sorted(
        (piece for piece in parts if piece.low < piece.high or (piece.has_low and piece.has_high)),
        key=lambda piece: (piece.low, not piece.has_low),
    )
    result: list[Piece] = []
    for piece in ordered:
        last = result[-1] if result else None
        if last is not None and (
            piece.low < last.high or (_same(piece.low, last.high) and (piece.has_low or last.has_high))
        ):
            high, has_high = max((last.high, last.has_high), (piece.high, piece.has_high))
            result[-1] = Piece(last.low, last.has_low, high, has_high)
        else:
            result.append(piece)
    return result


__all__ = ["Piece", "pieces", "points", "same_pieces"]
