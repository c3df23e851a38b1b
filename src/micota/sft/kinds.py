"""The kinds of activation checkpointing: each alone, and two of them in different layers of a model. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

ALONE = ("none", "selective", "full")  # in order of falling memory
PARTS = 4  # a mixture has this many parts, of about as many layers each


@dataclass(frozen=True)
class Mixture:
    """``heavy`` in the first layers and ``light``, which keeps more, in the last. The backward pass begins with the
    last: they are gone when layers with ``heavy`` compute again, so that only one of both needs memory for it."""

    light: str
    heavy: str
    parts: int = 0  # of PARTS, with ``heavy``

    def __str__(self) -> str:
        if self.light == self.heavy:
            return self.light
        heavy = Fraction(self.parts, PARTS)
        return f"{1 - heavy} {self.light} {heavy} {self.heavy}"

    def num_heavy(self, num_layers: int) -> int:
        """The number of layers with ``heavy``, rounded up."""
        return -(-num_layers * self.parts // PARTS)


def between(light: str, heavy: str) -> Iterator[Mixture]:
    """All mixtures of two kinds, the one with most memory first."""
    return (Mixture(light, heavy, parts) for parts in range(1, PARTS))


def with_mixtures(*kinds: str) -> tuple[str, ...]:
    """The names of kinds, in order of falling memory, and of the mixtures of each two neighbours."""
    names = [kinds[0]]
    for light, heavy in pairwise(kinds):
        names += [*map(str, between(light, heavy)), heavy]
    return tuple(names)


ORDER = with_mixtures(*ALONE)
_MIXTURES = {str(mixture): mixture for pair in pairwise(ALONE) for mixture in between(*pair)}


def mixture_of(name: str) -> Mixture:
    """The mixture of this name, of ``ORDER``; a kind alone is a mixture too."""
    return _MIXTURES.get(name) or Mixture(name, name)
