"""How a field of a schema is declared: what it means, what it accepts, and whether it changes results.

The rule of results. A field changes results where it sets *what* is computed, or names the implementation that
computes it: another model, prompt, temperature, precision, loss or attention kernel. Its value enters the key of every
artifact that depends on it, so that another value makes another artifact. ``auto`` is one such value: an
artifact has the same key on a CPU and on a GPU, whatever ``auto`` stands for there. A field does not change results
where it sets only *how the same work is cut and where it runs*: devices, batches of rows, packs, checkpoints,
activation checkpointing. Such work adds the same numbers in another order, and may differ in the last bits.

``tests/config/test_keys.py`` flips every field of every command and compares the keys with the declarations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING as REQUIRED
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Required, TypedDict, Unpack


class Words:
    """A text about a table. It is built when it is read, since the table may grow until then."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The declaration of a field.

    Args:
        about: its meaning, for the reference of all keys.
        results: whether another value gives other results; False for a part of the config holds for all keys below it.
        unit: the unit of its numbers.
        accepted: the values that ``check`` accepts, in words.
        options: its possible words, where it is one of a few; a table of them may grow.
        of_path: whether it describes what is at ``path`` beside it, and so does not hold for another path.
        internal: whether the commands set it, not users.
        unused: for a part of the config, the names of its fields that do not count at this position.
        short_for: for a key of one command, the dotted key of all commands that it sets, where it is not null.
        short_sets: what it sets besides, as overrides of keys of all commands.
        same_as: for a part of the config, the part whose keys it repeats, so that the reference lists them once.
        added: whether it is younger than artifacts: with its default it enters no key, so that they keep theirs.
        counts_with: what must hold of the fields beside it, or else it has no effect, as ``method=a, b`` (one of them;
            of a list, one is in it) or ``method!=a``.
    """

    about: str
    results: bool
    unit: str = ""
    accepted: str | Words = ""
    check: Callable[[Any], bool] = lambda value: True
    options: Iterable[str] = ()
    of_path: bool = False
    internal: bool = False
    unused: tuple[str, ...] = ()
    short_for: str = ""
    same_as: str = ""
    short_sets: tuple[str, ...] = ()
    added: bool = False
    counts_with: tuple[str, ...] = ()


class Facts(TypedDict, total=False):
    """Arguments that every kind of field takes, as in ``Declaration``."""

    about: Required[str]
    results: Required[bool]
    unit: str
    of_path: bool
    internal: bool
    short_for: str
    short_sets: tuple[str, ...]
    added: bool
    counts_with: tuple[str, ...]


def is_added(item: Field[Any], value: Any) -> bool:
    """Whether a field of any dataclass is one of a schema that is younger than artifacts, and has its default."""
    declared = item.metadata.get("declaration")
    if not (isinstance(declared, Declaration) and declared.added):
        return False
    return bool(value == (item.default_factory() if item.default_factory is not REQUIRED else item.default))


def declaration(item: Field[Any]) -> Declaration:
    """The declaration of a field of a schema.

    Raises:
        TypeError: it was declared without one of the functions of this module.
    """
    declared = item.metadata.get("declaration")
    if not isinstance(declared, Declaration):
        raise TypeError(f"config field {item.name} does not declare what it means and whether it changes results")
    return declared


def _declared(default: Any, default_factory: Any, declared: Declaration) -> Any:
    compare = declared.results or not declared.internal  # configs that differ only in internal notes are equal
    return field(default=default, default_factory=default_factory, compare=compare, metadata={"declaration": declared})


def plain(default: Any = REQUIRED, *, default_factory: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A field that accepts every value of its type."""
    return _declared(default, default_factory, Declaration(**facts))


def where(
    accepted: str | Words,
    check: Callable[[Any], bool],
    default: Any = REQUIRED,
    *,
    default_factory: Any = REQUIRED,
    options: Iterable[str] = (),
    **facts: Unpack[Facts],
) -> Any:
    """A field whose value must pass ``check``; ``accepted`` describes those values, ``options`` are some of them."""
    return _declared(default, default_factory, Declaration(accepted=accepted, check=check, options=options, **facts))


def part(
    default_factory: Any = REQUIRED,
    *,
    about: str,
    results: bool = True,
    unused: Iterable[str] = (),
    default: Any = REQUIRED,
    accepted: str = "",
    of_path: bool = False,
    internal: bool = False,
    same_as: str = "",
    added: bool = False,
    counts_with: tuple[str, ...] = (),
) -> Any:
    """A field that is a dataclass or a map of dataclasses, whose fields have declarations too."""
    declared = Declaration(
        about=about,
        results=results,
        unused=tuple(unused),
        accepted=accepted,
        of_path=of_path,
        internal=internal,
        same_as=same_as,
        added=added,
        counts_with=counts_with,
    )
    return _declared(default, default_factory, declared)


def choice(*options: str, default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A field that is one of a few words."""
    accepted = "one of " + ", ".join(options)
    return _declared(
        default,
        REQUIRED,
        Declaration(accepted=accepted, check=lambda value: value in options, options=options, **facts),
    )


def one_of(table: Mapping[str, Any], default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A field that is one of the names of a table, which may grow."""
    accepted = Words(lambda: "one of " + ", ".join(table))
    declared = Declaration(accepted=accepted, check=lambda value: value in table, options=table, **facts)
    return _declared(default, REQUIRED, declared)


def instead_of(owner: type[Any], name: str) -> Any:
    """A field that stands for the field ``name`` of another schema in one place; null leaves it as it is there."""
    item: Field[Any] = next(item for item in fields(owner) if item.name == name)
    known = declaration(item)
    declared = replace(
        known,
        accepted=Words(lambda: f"null, or {known.accepted}"),
        check=lambda value: value is None or known.check(value),
    )
    return _declared(None, REQUIRED, declared)


def positive(default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A field above 0; where it may be null, null stands for no limit."""
    return where("a number above 0", lambda value: value is None or 0 < value < math.inf, default, **facts)


def fraction(default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A field from 0 to 1."""
    return where("a number from 0 to 1", lambda value: 0 <= value <= 1, default, **facts)


def non_negative(default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A field of at least 0; where it may be null, null stands for not set."""
    return where("a number of at least 0", lambda value: value is None or 0 <= value < math.inf, default, **facts)


def shares(**facts: Unpack[Facts]) -> Any:
    """A set of at least one number above 0 and at most 1, as a list."""

    def fits(values: list[float]) -> bool:
        return bool(values) and all(0 < value <= 1 for value in values) and len(set(values)) == len(values)

    return where("a list of at least one number above 0 and at most 1, each once", fits, **facts)


def words(default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A text that is not empty, as a name that another program knows; where it may be null, null stands for not set."""
    return where(
        "null, or a text that is not empty" if default is None else "a text that is not empty",
        lambda value: value is None or (bool(value.strip()) and value.isprintable()),
        default,
        **facts,
    )


SLUG = "at most 100 letters, digits, dots, dashes and underscores, of which a letter or digit is the first"


def slug(default: Any = REQUIRED, **facts: Unpack[Facts]) -> Any:
    """A name that becomes part of a folder's name."""
    return where(SLUG, is_slug, default, **facts)


def is_slug(text: Any) -> bool:
    """Whether a text can be a part of a folder's name on every disk, and no option of a command."""
    return isinstance(text, str) and len(text) <= 100 and text[:1].isalnum() and not set(map(_sign, text)) - {""}


def _sign(character: str) -> str:
    return "" if character.isalnum() or character in "._-" else character


SMALLEST = 5e-324  # the smallest float64 above 0
FLOAT32 = (1.2e-38, 3.4e38)  # the magnitudes of float32, without its subnormal numbers


def is_computable(value: Any) -> bool:
    """Whether float32, in which models compute, holds a number: 1e-320 would be 0 there, and 1e308 infinite."""
    if isinstance(value, list):
        return all(map(is_computable, value))
    # An infinite number, or none, is left to the check of its field.
    is_plain = not isinstance(value, float) or value == 0 or not math.isfinite(value)
    return is_plain or FLOAT32[0] <= abs(value) <= FLOAT32[1]


LARGEST = 2**31 - 1  # of a whole number that is no number of bytes


def is_countable(value: Any, unit: str) -> bool:
    """Whether a whole number, or each of several, fits the integers of the libraries that count with it."""
    if isinstance(value, list | dict):
        return all(is_countable(one, unit) for one in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) <= (2**62 if unit == "bytes" else LARGEST)


BY_TENSOR = ", or a list of such (a gradient over the layers), or a list of {filter, value}, with a part of a \
weight's name (or null for the rest) as filter"


def by_tensor(lowest: float, default: Any = REQUIRED, *, highest: float = 1.0, **facts: Unpack[Facts]) -> Any:
    """A number from ``lowest`` to ``highest``: one number, a gradient over layers, or values by module."""

    def is_number(value: Any) -> bool:
        known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return known and lowest <= value <= highest

    def is_gradient(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(map(is_number, value))

    def is_value(item: Any) -> bool:
        if not isinstance(item, dict) or not item.keys() <= {"filter", "value"}:
            return False
        wanted = item.get("filter")
        return (wanted is None or (isinstance(wanted, str) and bool(wanted))) and fits(item.get("value"))

    def fits(value: Any) -> bool:
        listed = isinstance(value, list) and bool(value) and all(map(is_value, value))
        return listed or is_gradient(value) or is_number(value)

    accepted = "a number" if math.isinf(lowest) else "a number above 0 and at most 1"
    return where(accepted + BY_TENSOR, fits, default, **facts)


def fits_all(item: Any) -> bool:
    """Whether an item of values by module holds for every tensor."""
    return item.get("filter") in (None, "*")


def numbers(setting: Any) -> list[float]:
    """All numbers of a setting that may differ between tensors."""
    if isinstance(setting, list):
        return [value for item in setting for value in numbers(item["value"] if isinstance(item, dict) else item)]
    return [float(setting)]
