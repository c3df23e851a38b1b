"""Tables of named entries: merge methods, filters, graders, engines."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """An entry of a registry."""

    @property
    def name(self) -> str: ...


EntryT = TypeVar("EntryT", bound=Named)


class Registry(Mapping[str, EntryT], Generic[EntryT]):
    """Entries of one kind by name, in the order in which they were added.

    Code that needs something of every entry registers a check with ``for_each``, so that an incomplete entry fails when
    it is added and not when it is used.

    Args:
        kind: the name of an entry in errors.
        home: the module that adds the entries, where they are defined in a package that imports this one; it is
            imported when the table is first read.
    """

    def __init__(self, kind: str, home: str = "") -> None:
        self.kind = kind
        self._home = home
        self._entries: dict[str, EntryT] = {}
        self._checks: list[Callable[[EntryT], object]] = []

    def add(self, entry: EntryT) -> EntryT:
        """Add an entry and return it.

        Raises:
            TypeError: the name is taken, or a check refuses the entry.
        """
        if entry.name in self._entries:
            raise TypeError(f"{self.kind} {entry.name!r} is added twice")
        for check in self._checks:
            check(entry)
        self._entries[entry.name] = entry
        return entry

    def for_each(self, check: Callable[[EntryT], object]) -> None:
        """Call ``check`` with every entry, now and whenever one is added; it raises a TypeError to refuse one."""
        for entry in self._entries.values():
            check(entry)
        self._checks.append(check)

    def _read(self) -> dict[str, EntryT]:
        if self._home:
            importlib.import_module(self._home)
        return self._entries

    def __getitem__(self, name: str) -> EntryT:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())
