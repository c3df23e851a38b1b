"""Values of 50 digits: one bounded operation for each node of a tree."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from inspect import signature
from typing import Any

from micota.grading.reading.nodes import Node, has, name_of
from micota.grading.values.exact import MAX_BITS, NoValueError, exact

DIGITS = 50
AGREEMENT = 35  # digits in which equal values agree


@lru_cache(maxsize=1)
def context() -> Any:
    from mpmath import MPContext

    context = MPContext()
    context.dps = DIGITS
    return context


class Evaluator:
    """Values of trees at one point: ``point`` has the values of the variables, ``mp`` is the context of mpmath."""

    def __init__(self, context: Any, point: dict[str, Any]) -> None:
        self.mp = context
        self.point = point

    def value(self, node: Node) -> Any:
        head = node.head
        if head == "number":
            assert node.value is not None
            if max(node.value.numerator.bit_length(), node.value.denominator.bit_length()) > MAX_BITS:
                raise NoValueError
            return self.mp.mpf(node.value.numerator) / node.value.denominator
        if head == "symbol" or head == "call":
            return self.point[name_of(node)] if name_of(node) in self.point else _none()
        if head == "constant":
            return {"pi": self.mp.pi, "e": self.mp.e, "i": self.mp.j, "infinity": self.mp.inf}[node.name] + 0
        if head == "sum":
            return self._bounded(self.value(node.args[0]) + self.value(node.args[1]))
        if head == "negative":
            return -self.value(node.args[0])
        if head == "product":
            return self._bounded(self.value(node.args[0]) * self.value(node.args[1]))
        if head == "quotient":
            bottom = self.value(node.args[1])
            if bottom == 0:
                raise NoValueError
            return self._bounded(self.value(node.args[0]) / bottom)
        if head == "power":
            return self._power(node)
        if head == "degrees":
            return self.value(node.args[0])
        if head == "function":
            return self._function(node)
        raise NoValueError

    def _bounded(self, value: Any) -> Any:
        """The value; a complex one without an imaginary part as a real number, which has an order."""
        if self.mp.isnan(value):
            raise NoValueError
        return self.mp.re(value) if self.mp.im(value) == 0 else value

    def _power(self, node: Node) -> Any:
        base, exponent = (self.value(part) for part in node.args)
        if base == 0:
            if self.mp.re(exponent) <= 0:
                raise NoValueError
            return base
        if self.mp.isinf(base) or self.mp.isinf(exponent):
            raise NoValueError
        if abs(exponent) * (abs(self.mp.log(abs(base))) + 4) > MAX_BITS:
            raise NoValueError
        odd = self._odd_root(node, base)
        if odd is not None:
            return odd
        return self._bounded(self.mp.power(base, exponent))

    def _odd_root(self, node: Node, base: Any) -> Any | None:
        """``(-8)^{1/3}`` is -2, as in school."""
        rational = exact(node.args[1])
        if (
            rational is None
            or rational.denominator % 2 == 0
            or rational.denominator == 1
            or self.mp.im(base) != 0
            or base >= 0
        ):
            return None
        magnitude = self.mp.power(-base, self.mp.mpf(rational.numerator) / rational.denominator)
        return -magnitude if rational.numerator % 2 else magnitude

    def _function(self, node: Node) -> Any:
        name = node.name
        if name == "det":
            return self._determinant(node.args[0])
        if name == "angle":
            raise NoValueError
        args = [self._argument(name, part) for part in node.args]
        if name == "root":
            return self._root(args[0], args[1])
        function = _FUNCTIONS.get(name)
        if function is None or not _takes(name, len(args)):
            raise NoValueError
        if any(self.mp.isinf(arg) for arg in args):
            raise NoValueError
        if any(abs(arg) > _LARGEST.get(name, 10_000) for arg in args):
            raise NoValueError
        return self._bounded(function(self.mp, *args))

    def _argument(self, name: str, node: Node) -> Any:
        """The value of an argument; degrees in a trigonometric function are an angle."""
        if name in _ANGLES and has(node, "degrees"):
            return self.value(_in_radians(node))
        return self.value(node)

    def _root(self, value: Any, index: Any) -> Any:
        if index == 0 or abs(index) > 1_000:
            raise NoValueError
        is_odd = self.mp.im(index) == 0 and index == int(index) and int(index) % 2 == 1
        if is_odd and self.mp.im(value) == 0 and value < 0:
            return -self.mp.power(-value, 1 / self.mp.mpf(index))
        return self.mp.sqrt(value) if index == 2 else self.mp.power(value, 1 / self.mp.mpmathify(index))

    def _determinant(self, node: Node) -> Any:
        if node.head != "matrix":
            raise NoValueError
        rows, columns = map(int, node.name.split("x"))
        if rows != columns or rows > 6:
            raise NoValueError
        cells = [self.value(cell) for cell in node.args]
        return self.mp.det(self.mp.matrix([cells[row * columns : (row + 1) * columns] for row in range(rows)]))


@lru_cache(maxsize=256)
def _takes(name: str, count: int) -> bool:
    """Whether a function has so many arguments."""
    try:
        signature(_FUNCTIONS[name]).bind(None, *range(count))
    except TypeError:
        return False
    return True


def _in_radians(node: Node) -> Node:
    if node.head == "degrees":
        turn = Node("quotient", (Node("constant", name="pi"), Node("number", value=Fraction(180))))
        return Node("product", (node.args[0], turn))
    return node._replace(args=tuple(map(_in_radians, node.args)))


def _none() -> Fraction:
    raise NoValueError


def _logarithm(mp: Any, value: Any, base: Any = None) -> Any:
    if value == 0:
        raise NoValueError
    return mp.log(value) / mp.log(10 if base is None else base)


def _real_only(value: Any, mp: Any) -> Any:
    if mp.im(value) != 0:
        raise NoValueError
    return mp.re(value)


def _floor(mp: Any, value: Any) -> Any:
    # A sum that is whole up to rounding is whole.
    nearest = mp.nint(_real_only(value, mp))
    return nearest if abs(value - nearest) < mp.mpf(10) ** -AGREEMENT else mp.floor(value)


def _ceil(mp: Any, value: Any) -> Any:
    return -_floor(mp, -value)


_ANY_SIZE = 10**9_000
# The largest argument of a function: digits of larger ones would be lost, or cost too much.
_LARGEST = dict.fromkeys(("log", "ln", "abs", "max", "min"), _ANY_SIZE)
_LARGEST |= dict.fromkeys(("Re", "Im", "floor", "ceil"), 10**30)
_ANGLES = frozenset(["sin", "cos", "tan", "cot", "sec", "csc", "cis"])
_FUNCTIONS: dict[str, Any] = {
    "sin": lambda mp, x: mp.sin(x), "cos": lambda mp, x: mp.cos(x), "tan": lambda mp, x: mp.tan(x),
    "cot": lambda mp, x: mp.cot(x), "sec": lambda mp, x: mp.sec(x), "csc": lambda mp, x: mp.csc(x),
    "arcsin": lambda mp, x: mp.asin(x), "arccos": lambda mp, x: mp.acos(x), "arctan": lambda mp, x: mp.atan(x),
    "arccot": lambda mp, x: mp.acot(x), "sinh": lambda mp, x: mp.sinh(x), "cosh": lambda mp, x: mp.cosh(x),
    "tanh": lambda mp, x: mp.tanh(x), "coth": lambda mp, x: mp.coth(x),
    "ln": lambda mp, x: mp.log(x) if x != 0 else _none(),
    "log": _logarithm, "exp": lambda mp, x: mp.exp(x), "abs": lambda mp, x: abs(x), "floor": _floor, "ceil": _ceil,
    "Re": lambda mp, x: mp.re(x), "Im": lambda mp, x: mp.im(x), "arg": lambda mp, x: mp.arg(x),
    "sgn": lambda mp, x: mp.sign(x), "cis": lambda mp, x: mp.expj(x),
    "factorial": lambda mp, x: mp.factorial(x), "binom": lambda mp, n, k: mp.binomial(n, k),
    "max": lambda mp, *xs: max(_real_only(x, mp) for x in xs),
    "min": lambda mp, *xs: min(_real_only(x, mp) for x in xs),
    "mod": lambda mp, x, y: mp.fmod(_real_only(x, mp), _real_only(y, mp)) if y != 0 else _none(),
}  # fmt: skip
