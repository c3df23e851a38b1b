"""The table of filters from completions to training data; the entries are in micota.data.filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from micota.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A filter of completions.

    Args:
        name: as in ``select.filters``.
        reasons: the words by which what it drops is counted, in data cards and on the console.
        settings: the fields of ``select`` that it reads.
        open: from a ``SelectConfig`` to a check of ``Completion`` and ``Verdict``, in the order of the completions of
            one generator; the check returns the reason to drop a completion, or None.
        conflicts: from a ``SelectConfig`` to the texts of what is wrong with the settings.
        needs_gold: it reads the verdict, and so does not apply to rows without a gold answer.
    """

    name: str
    reasons: tuple[str, ...]
    open: Callable[[Any], Callable[[Any, Any], str | None]]
    settings: tuple[str, ...] = ()
    conflicts: Callable[[Any], Iterable[str]] = lambda select: ()
    needs_gold: bool = False


FILTERS: Registry[Filter] = Registry("filter", home="micota.data.filters")
