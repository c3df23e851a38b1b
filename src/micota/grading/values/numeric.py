r"""Values of expressions: exact rationals where they are, else 50 digits at fixed points of the variables.

Two expressions are equal if they agree at every point where both have a value. Agreement of 35 digits at several points
that no one chose is no accident, and no simplification can hang: every operation is bounded. Points are positive first
(``\sqrt{1/n}`` is ``1/\sqrt{n}`` there), then of both signs where both values are real (``\sqrt{x^2}`` is not ``x``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from micota.grading.reading.nodes import Node, symbols, walk
from micota.grading.values.evaluator import AGREEMENT, Evaluator, context
from micota.grading.values.exact import NoValueError, exact

MAX_NODES = 400
NOISE = 1e-38  # smaller values are rounding errors of numbers near 1
_WHOLE = frozenset(["factorial", "binom", "floor", "ceil", "mod", "gcd", "lcm"])


def same_value(left: Node, right: Node) -> bool | None:
    """Whether two expressions are equal; None where that is undecided."""
    first, second = exact(left), exact(right)
    if first is not None and second is not None:
        return first == second
    if left == right:
        return True
    if sum(1 for _ in walk(left)) > MAX_NODES or sum(1 for _ in walk(right)) > MAX_NODES:
        return None
    names = sorted(symbols(left) | symbols(right))
    agreed = 0
    for point, is_positive in points(names, whole=_is_whole(left) or _is_whole(right)):
        values = numeric(left, point), numeric(right, point)
        if values[0] is None or values[1] is None:
            if (values[0] is None) != (values[1] is None) and not names:
                return None
            continue
        if agree(*values):
            agreed += is_positive
        elif is_positive or (_is_real(values[0]) and _is_real(values[1])):
            return False
        if not names:
            break
    return True if agreed >= (2 if names else 1) else None


def _is_whole(node: Node) -> bool:
    """Whether an expression counts with whole numbers: a factorial, a floor, ... of a variable."""
    return any(part.head == "function" and part.name in _WHOLE and symbols(part) for part in walk(node))


def points(names: list[str], *, whole: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Values for variables, and whether all are positive; the same for the same names in every run."""
    if not names:
        yield {}, True
        return
    if whole:
        for turn in range(14):
            yield {name: context().mpf(2 + (_hashed(name, turn) % 23) + turn) for name in names}, True
        return
    for scale, turn in ((3, 0), (1, 1), (7, 2), (1, 3)):
        yield {name: context().mpf(scale) * (_hashed(name, turn) % 9973 + 10) / 10_007 for name in names}, True
    for turn in range(4, 7):
        yield {name: context().mpf(5) * (_hashed(name, turn) % 9973 - 4_987) / 10_007 for name in names}, False


@lru_cache(maxsize=4096)
def _hashed(name: str, turn: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{turn} {name}".encode()).digest()[:6], "big")


def agree(left: Any, right: Any) -> bool:
    """Whether two numbers agree in all but the last of their digits."""
    mp = context()
    if mp.isinf(left) or mp.isinf(right):
        return bool(left == right)
    small, large = sorted((abs(left), abs(right)))
    if large < NOISE and (small == 0 or small > NOISE**4):  # what rounding leaves of e^{i pi} + 1, unlike 1/2004!
        return True
    return bool(abs(left - right) <= mp.mpf(10) ** -AGREEMENT * large)


def _is_real(value: Any) -> bool:
    return bool(abs(context().im(value)) <= context().mpf(10) ** -AGREEMENT * max(1, abs(value)))


def numeric(node: Node, point: dict[str, Any]) -> Any | None:
    """The value of an expression at a point as a number of 50 digits; None where it has none."""
    try:
        return Evaluator(context(), point).value(node)
    except (NoValueError, ArithmeticError, ValueError, RecursionError, MemoryError, NotImplementedError):
        return None


def real(node: Node) -> Any | None:
    """The value of an expression without variables if it is real (or infinite); else None."""
    value = numeric(node, {})
    if value is None or not _is_real(value):
        return None
    return context().re(value)
