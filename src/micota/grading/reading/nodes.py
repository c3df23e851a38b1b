"""What an answer reads as: a tree of nodes, one head each. ``parser`` builds it, ``values`` and ``equality`` read
it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple


class Node(NamedTuple):
    r"""A part of an answer.

    Numbers: ``number`` (``value``), ``symbol``, ``constant`` (``pi``, ``e``, ``i``, ``infinity``), ``sum``,
    ``product``,
    ``power``, ``quotient``, ``negative``, ``function`` (``name``), ``call`` (``f(x)``), ``plusminus``, ``degrees``,
    ``base``
    (``name`` is the digits, ``value`` the base), ``quantity`` (``name`` is the unit), ``ratio``. Structures: ``list``
    (``name`` "and", "or" or ","), ``set``, ``tuple`` (``name`` is its two brackets), ``matrix`` (``name`` "2x3"; row by
    row), ``relation`` (``name`` is the signs), ``union``, ``intersection``, ``minus``, ``named`` (``R``), ``such``
    (a set
    by a condition).
    """

    head: str
    args: tuple[Node, ...] = ()
    name: str = ""
    value: Fraction | None = None


def number(value: Fraction | int) -> Node:
    """A number."""
    return Node("number", value=Fraction(value))


def matrix(rows: list[list[Node]]) -> Node:
    """A matrix of these rows."""
    return Node("matrix", tuple(cell for row in rows for cell in row), name=f"{len(rows)}x{len(rows[0])}")


def transposed(node: Node) -> Node:
    """A matrix with its rows as columns; a tuple is a row."""
    if node.head == "tuple":
        return matrix([[part] for part in node.args])
    rows, columns = map(int, node.name.split("x"))
    return matrix([[node.args[row * columns + column] for row in range(rows)] for column in range(columns)])


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes below it."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(current.args)


def symbols(node: Node) -> frozenset[str]:
    """The names of all symbols and calls in a tree; what is called is one name with its arguments."""
    if node.head in ("symbol", "call"):
        return frozenset([name_of(node)])
    return frozenset().union(*map(symbols, node.args)) if node.args else frozenset()


def name_of(node: Node) -> str:
    """The name under which a symbol, or a call with its arguments, has a value."""
    if node.head == "symbol":
        return node.name
    return f"{node.name}({','.join(map(repr, node.args))})"


def has(node: Node, *heads: str) -> bool:
    """Whether any node of the tree has one of these heads."""
    return any(part.head in heads for part in walk(node))
