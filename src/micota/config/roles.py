"""Engines and trainers of single roles: ``teacher.engine=vllm``, ``ta.trainer=fsdp``, ``ta.trainer.devices=8``.

A role without settings of its own takes the global ``engine`` and ``trainer``. With an option (``ta.trainer=fsdp``) it
has that option, as if it had been chosen globally. With keys alone (``ta.trainer.devices=8``) it has the global
settings with these changes.

For Hydra, the option is a choice of the group ``trainer`` at the package ``ta.trainer``, and its keys need a node that
is not null. So the schema that Hydra sees has a node whose fields are all missing, and ``settle_roles`` turns what was
set there into a whole ``TrainerConfig``, or null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Any, cast, get_args, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf

from micota.config.maps import as_given, with_entries
from micota.config.models import ModelConfig
from micota.config.own_bench import with_own_benchmark
from micota.config.running import EngineConfig
from micota.config.schemas import Config
from micota.config.trainer import TrainerConfig
from micota.errors import ConfigError

BY_ROLE: dict[str, type[Any]] = {"engine": EngineConfig, "trainer": TrainerConfig}  # groups that a role can choose of
TYPED = re.compile(r"^(\+{0,2})([A-Za-z_]+)\.(engine|trainer)=(?!\s*\{)")
NO_CHOICE = re.compile(r"^(?:engine|trainer)@([A-Za-z_]+)\.(engine|trainer)=null$")
NO_MODEL = re.compile(r"^model@([\w.]+)=null$")  # Hydra takes no null for a group
GROUP = re.compile(r"^(\+{0,2})(engine|trainer)@([A-Za-z_]+)\.\2=")

WITHOUT = re.compile(r"^~(engine|trainer)@([A-Za-z_]+)\.\1$")


def for_hydra(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them: ``ta.trainer=fsdp`` as ``trainer@ta.trainer=fsdp``, new entries of maps as
    appended options, ``bench.path=mine.jsonl`` as an entry ``mine``.

    Raises:
        ConfigError: a model that is never fine-tuned is given a trainer.
    """
    typed = with_own_benchmark(overrides)
    named = (NO_MODEL.sub(r"\1.path=null", override) for override in typed)
    return with_entries(NO_CHOICE.sub(r"~\2@\1.\2", TYPED.sub(_group, override)) for override in named)


def _group(match: re.Match[str]) -> str:
    _, role, group = match.groups()
    if group == "trainer" and role in ("teacher", "large", "small", "model"):
        raise ConfigError(f"{role}.trainer: this model is not fine-tuned; accepted: ta.trainer, student.trainer")
    return f"{group}@{role}.{group}="


def as_typed(overrides: Iterable[str]) -> list[str]:
    """The reverse of :func:`for_hydra`, for the commands that are printed."""
    return [as_given(WITHOUT.sub(r"\2.\1=null", GROUP.sub(r"\1\3.\2=", override))) for override in overrides]


def roles_of(schema: type[Config]) -> list[str]:
    """The fields of a command's config that are models."""
    hints = get_type_hints(schema)
    return [
        item.name
        for item in fields(schema)
        if isinstance(hints[item.name], type) and issubclass(hints[item.name], ModelConfig)
    ]


def schema_node(schema: type[Config]) -> DictConfig:
    """The schema of a command for Hydra, in which engine and trainer of each role can be set key by key."""
    node = OmegaConf.structured(schema)
    hints = get_type_hints(schema)
    for role in roles_of(schema):
        node[role] = OmegaConf.structured(hints[role])
        for group, kind in BY_ROLE.items():
            node[role][group] = OmegaConf.structured(_all_missing(kind))
    assert isinstance(node, DictConfig)
    return node


def _all_missing(schema: type[Any]) -> type[Any]:
    """A dataclass with the fields of ``schema``, all missing, so that it shows which are set."""
    hints = get_type_hints(schema)
    items: list[tuple[str, Any, Any]] = []
    for item in fields(schema):
        inner = next((kind for kind in get_args(hints[item.name]) if is_dataclass(kind)), None)
        missing = field(default=MISSING) if inner is None else field(default_factory=_all_missing(cast(Any, inner)))
        items.append((item.name, hints[item.name], missing))
    return make_dataclass(schema.__name__, items, bases=(schema,), kw_only=True)


def settle_roles(composed: DictConfig, schema: type[Config]) -> None:
    """Complete the engine and the trainer of each role, or set them to null where the role has the global ones.

    Args:
        composed: changed in place.
    """
    for role in roles_of(schema):
        for group, kind in BY_ROLE.items():
            node = composed[role].get(group) if not OmegaConf.is_missing(composed, role) else None
            if node is None:
                continue
            given = _given(node)
            if not given:
                composed[role][group] = None
                continue
            whole = OmegaConf.structured(kind) if "name" in given else composed[group]
            composed[role][group] = OmegaConf.merge(OmegaConf.structured(kind), whole, given)


def _given(node: DictConfig) -> dict[str, Any]:
    """The values of a node that are set, without those that are missing."""
    given: dict[str, Any] = {}
    for name in node:
        if OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        if isinstance(value, DictConfig) and is_dataclass(OmegaConf.get_type(value)):
            value = _given(value)
            if not value:
                continue
        given[str(name)] = value
    return given
