"""Functions and commands of LaTeX: their arguments, powers and bases; matrices."""

from __future__ import annotations

from abc import abstractmethod

from micota.grading.reading.cursor import NOTHING, Cursor
from micota.grading.reading.nodes import Node, matrix, number
from micota.grading.reading.tokens import UnreadableError
from micota.grading.reading.words import word_set

_MATRICES = frozenset(
    ["pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array", "psmallmatrix", "bsmallmatrix"]
)
# Mathematics without a value here: a worker process may know it.
UNVALUED = word_set(
    """
    int sum prod lim sup inf limsup liminf partial nabla oint iint bigoplus
    """
)


class Functions(Cursor):
    """The part of the grammar below ``atom`` that reads functions and commands."""

    def _function(self, name: str) -> Node:
        if name in ("sqrt", "cbrt"):
            index = number(2 if name == "sqrt" else 3)
            if self.take("open", "["):
                index = self.closed("]")
                return Node("function", (self._operand(), index), name="root")
            return Node("function", (self._one_operand(), index), name="root")
        if name == "binom" and self.peek().text == "{":
            return Node("function", (self._operand(), self._operand()), name="binom")
        base = self._log_base() if name == "log" else None
        exponent = None
        if self.take("operator", "^"):
            exponent = self.script()
        argument = self._argument(name)
        args = argument.args if argument.head in ("list", "tuple") else (argument,)
        if name == "log" and base is not None:
            args = (*args, base)
        if exponent == Node("negative", (number(1),)) and "arc" + name in ("arcsin", "arccos", "arctan"):
            return Node("function", args, name="arc" + name)
        node = Node("function", args, name=name)
        return node if exponent is None else Node("power", (node, exponent))

    def _log_base(self) -> Node | None:
        if not self.take("operator", "_"):
            return None
        if self.take("open", "{"):
            return self.closed("}")
        token = self.peek()
        if token.kind == "number" and len(token.text) > 1 and token.text.isdigit() and not token.text.startswith("10"):
            # LaTeX takes one digit: \log_28 is the logarithm of 8 to base 2.
            self.tokens[self.position] = token._replace(text=token.text[1:])
            return number(int(token.text[0]))
        return self.atom()

    def _one_operand(self) -> Node:
        if self.take("open", "{"):
            return self.closed("}")
        return self.atom()

    def _argument(self, name: str) -> Node:
        """What a function is applied to: a bracket, or the factors up to the next sign or function."""
        opening = self.peek()
        if (opening.kind == "open" and opening.text in ("(", "[", "{", "{}")) or opening.text == "|":
            node = self.postfix(self.atom())
            if self.take("operator", "^"):
                if opening.text in ("(", "["):
                    self.position -= 1
                    return node
                return self.raised(node)
            return node
        if self.peek().text == "-" and self.peek().kind == "operator":
            return self.factor()
        node = self.power()
        while self.starts_factor() and self.peek().kind != "function" and self.peek().text not in ("(", "["):
            node = self.beside(node)
        return node

    def _command(self, name: str) -> Node:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            return Node("quotient", (self._operand(), self._operand()))
        if name in ("dbinom", "tbinom"):
            return Node("function", (self._operand(), self._operand()), name="binom")
        if name == "angle":
            return Node("function", (self.product(),), name="angle")
        if name in ("emptyset", "varnothing", "O"):
            return Node("set")
        if name == "Omega":
            return Node("symbol", name=name)
        raise UnreadableError(f"command \\{name}", is_mathematics=name in UNVALUED)

    def _operand(self) -> Node:
        r"""One argument of a LaTeX command: a group, or a single digit or letter (``\frac12``)."""
        token = self.peek()
        if token.kind == "number" and len(token.text) > 1 and token.text[0].isdigit():
            self.tokens[self.position] = token._replace(text=token.text[1:], space=False)
            return number(int(token.text[0]))
        if self.take("open", "{"):
            return self.closed("}")
        return self.atom()

    def _environment(self, name: str) -> Node:
        if name not in _MATRICES and name not in ("vmatrix", "Vmatrix"):
            raise UnreadableError(f"environment {name}")
        rows: list[list[Node]] = [[]]
        while not self.take("end"):
            if self.peek() is NOTHING:
                raise UnreadableError("an environment is not closed")
            if self.take("row"):
                rows.append([])
            elif self.take("cell"):
                continue
            else:
                rows[-1].append(self.items(("&", "\\", name)))
        rows = [row for row in rows if row]
        if not rows or len({len(row) for row in rows}) > 1:
            raise UnreadableError("a matrix with rows of different lengths")
        node = matrix(rows)
        return Node("function", (node,), name="det") if name == "vmatrix" else node

    @abstractmethod
    def starts_factor(self) -> bool:
        """Whether the next token starts a factor that has no sign before it."""

    @abstractmethod
    def beside(self, node: Node) -> Node:
        """A factor without a sign before it."""

    @abstractmethod
    def postfix(self, node: Node) -> Node:
        """Factorials and degrees behind a node."""

    @abstractmethod
    def raised(self, base: Node) -> Node:
        """A node to the power that follows."""
