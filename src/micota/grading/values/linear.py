"""Matrices: sums, products with numbers and with each other, as matrices of expressions."""

from __future__ import annotations

from micota.grading.reading.nodes import Node, has, matrix

MAX_CELLS = 100


def evaluated(node: Node) -> Node:
    """A tree whose value is a matrix (or a tuple times a number) as that matrix; any other tree as it is."""
    if node.head in ("matrix", "tuple") or not has(node, "matrix", "tuple"):
        return node
    if node.head == "function" and node.name == "det":
        return node
    parts = [evaluated(part) for part in node.args]
    if node.head == "negative" and parts[0].head in ("matrix", "tuple"):
        return _mapped(parts[0], lambda cell: Node("negative", (cell,)))
    if (
        node.head == "sum"
        and parts[0].head == parts[1].head
        and parts[0].head in ("matrix", "tuple")
        and len(parts[0].args) == len(parts[1].args)
    ):
        return parts[0]._replace(
            args=tuple(Node("sum", pair) for pair in zip(parts[0].args, parts[1].args, strict=True))
        )
    if node.head == "product":
        return _product(node, *parts)
    if node.head == "quotient" and parts[0].head in ("matrix", "tuple") and parts[1].head not in ("matrix", "tuple"):
        return _mapped(parts[0], lambda cell: Node("quotient", (cell, parts[1])))
    return node


def _mapped(node: Node, change) -> Node:  # type: ignore[no-untyped-def]
    return node._replace(args=tuple(map(change, node.args)))


def _product(node: Node, left: Node, right: Node) -> Node:
    shapes = ("matrix", "tuple")
    if left.head not in shapes and right.head in shapes:
        return _mapped(right, lambda cell: Node("product", (left, cell)))
    if right.head not in shapes and left.head in shapes:
        return _mapped(left, lambda cell: Node("product", (cell, right)))
    if left.head != "matrix" or right.head != "matrix":
        return node
    rows, inner = map(int, left.name.split("x"))
    other, columns = map(int, right.name.split("x"))
    if inner != other or rows * columns * inner > MAX_CELLS:
        return node
    return matrix(
        [[_dot(left, right, row, column, inner, columns) for column in range(columns)] for row in range(rows)]
    )


def _dot(left: Node, right: Node, row: int, column: int, inner: int, columns: int) -> Node:
    total: Node | None = None
    for index in range(inner):
        term = Node("product", (left.args[row * inner + index], right.args[index * columns + column]))
        total = term if total is None else Node("sum", (total, term))
    assert total is not None
    return total
