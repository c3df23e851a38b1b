"""A benchmark of the user's own on the command line: ``bench.path=mine.jsonl bench.answer_column=gold``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields

from micota.config.fields import SLUG, is_slug
from micota.config.models import name_of
from micota.config.problems import BenchConfig
from micota.config.quoting import plain_value
from micota.errors import ConfigError

FIELDS = {item.name for item in fields(BenchConfig)} | {"name"}
OWN = re.compile(rf"^\+?bench\.({'|'.join(sorted(FIELDS))})((?:\.[^=]*)?)=(.*)$", re.DOTALL)


def with_own_benchmark(overrides: Iterable[str]) -> list[str]:
    """Return overrides in which the fields of a benchmark without a name stand under one, as Hydra takes them.

    The name is ``bench.name``, or the last part of the path. The benchmark stands beside those of ``bench=``; without
    such a choice it is the only one.

    Raises:
        ConfigError: there are fields of a benchmark, and no path.
    """
    overrides = list(overrides)
    own = [match for item in overrides if (match := OWN.match(item))]
    if not own:
        return overrides
    given = {match[1]: plain_value(match[3]) for match in own if not match[2]}
    if not given.get("path"):
        raise ConfigError(
            f"{own[0][0]}: which benchmark? accepted: bench.NAME.{own[0][1]}=..., or also bench.path=FILE"
        )
    name = given.get("name") or name_of(given["path"])
    if not is_slug(name):
        raise ConfigError(f"bench.name={name!r}; accepted: {SLUG}")
    others = [item for item in overrides if not OWN.match(item)]
    chosen = any(item.startswith(("bench=", "bench@bench=")) for item in others)
    fields_of = [f"bench.{name}.{match[1]}{match[2]}={match[3]}" for match in own if match[1] != "name"]
    return [*others, *([] if chosen else ["bench=[own]"]), *fields_of]
