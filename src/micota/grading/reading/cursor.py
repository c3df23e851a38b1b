"""A position in a list of tokens, and what the levels of the grammar need of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod

from micota.grading.reading.nodes import Node
from micota.grading.reading.tokens import Token, UnreadableError

MAX_DEPTH = 40
NOTHING = Token("end of text", "")


class Cursor(ABC):
    """A token list, the index of the next token, and how deep the grammar stands in it."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.bars = 0
        self.in_set = False

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else NOTHING

    def take(self, kind: str, *texts: str) -> Token | None:
        """The next token if it is of this kind (and one of these texts), consumed; else None."""
        token = self.peek()
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self.position += 1
        return token

    def expect(self, kind: str, *texts: str) -> Token:
        token = self.take(kind, *texts)
        if token is None:
            raise UnreadableError(f"expected {' or '.join(texts)}, found {self.peek().text or 'the end'!r}")
        return token

    @abstractmethod
    def items(self, closers: tuple[str, ...]) -> Node:
        """Clauses between separators, up to one of the closing tokens (which stays)."""

    @abstractmethod
    def sum(self) -> Node:
        """A sum."""

    @abstractmethod
    def power(self) -> Node:
        """An atom with its powers and factorials."""

    @abstractmethod
    def factor(self) -> Node:
        """A power with any number of signs before it."""

    @abstractmethod
    def product(self, *, signed: bool = False) -> Node:
        """A product, with or without signs between its factors."""

    @abstractmethod
    def atom(self) -> Node:
        """A number, a name, a function or a group."""

    @abstractmethod
    def script(self) -> Node:
        """The operand of ``^``."""

    def closed(self, *closers: str) -> Node:
        """What stands before one of these closing brackets, which is consumed."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise UnreadableError("nested too deep")
        bars, self.bars, in_set, self.in_set = self.bars, 0, self.in_set, self.in_set and closers == ("}",)
        node = self.items(closers)
        self.expect("close", *closers)
        self.bars, self.in_set = bars, in_set
        self.depth -= 1
        return node
