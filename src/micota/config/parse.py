"""Turns a composed config into checked dataclasses, and a mistake into one line that names its key."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from micota.config.call import Call
from micota.config.commands import SCHEMAS
from micota.config.fields import LARGEST, SLUG, declaration, is_computable, is_countable, is_slug
from micota.config.method import PartConfig
from micota.config.models import OtherModelConfig
from micota.config.problems import BenchConfig
from micota.config.renamed import SWEEP, renamed_key, renamed_value
from micota.config.roles import roles_of, settle_roles
from micota.config.schemas import Config
from micota.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Config)


def parse(composed: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """Turn a composed Hydra config into checked dataclasses.

    Raises:
        ConfigError: one line that names the key, the value seen and what is accepted.
    """
    try:
        if OmegaConf.get_type(composed) is not schema:
            composed = OmegaConf.merge(OmegaConf.structured(schema), composed)  # type: ignore[assignment]
        settle_roles(composed, schema)
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        if is_bug_in_resolver(error):
            raise
        raise ConfigError(explain(error, schema)) from error
    assert isinstance(config, schema)
    for complaint in complaints(config):
        raise ConfigError(complaint)
    return config


def complaints(node: Any, path: str = "") -> Iterator[str]:
    """Every value below ``node`` that its schema does not accept, as readable lines, outermost last."""
    if isinstance(node, dict):
        for key, child in node.items():
            if isinstance(child, BenchConfig | PartConfig) and not is_slug(
                key
            ):  # such a name becomes a part of folders' names
                yield f"{path.rstrip('.')}: the name {key!r}; accepted: {SLUG}"
            yield from complaints(child, f"{path}{key}.")
    if not is_dataclass(node):
        return
    for name in vars(node).keys() - {item.name for item in fields(node)}:  # added with +name=
        yield unknown_key(type(node), name, path)
    kind: Any = type(node)  # which mypy takes for a type of types too
    for item in _in_order(kind):
        value = getattr(node, item.name)
        if not is_computable(value):
            yield f"{path}{item.name}={value!r}; accepted: {declaration(item).accepted or 'a number'}, in float32"
        if not is_countable(value, declaration(item).unit):
            yield f"{path}{item.name}={value!r}; accepted: {accepted_at(type(node), item.name)}, of at most {LARGEST}"
        elif not _fits(item, value):
            renamed = renamed_value(f"{path}{item.name}", value)
            yield renamed or f"{path}{item.name}={value!r}; accepted: {declaration(item).accepted}"
        yield from complaints(value, f"{path}{item.name}.")
    for conflict in getattr(node, "conflicts", lambda: ())():
        yield f"{path.rstrip('.') or 'config'}: {conflict}"


@cache
def _in_order(kind: type[Any]) -> list[Field[Any]]:
    """The fields of a dataclass, those that stand for another key first: a mistake is named as the user typed it."""
    return sorted(fields(kind), key=lambda item: not declaration(item).short_for)


def _fits(item: Field[Any], value: Any) -> bool:
    try:
        return declaration(item).check(value)
    except TypeError:  # of another type: Hydra refuses it before, a caller in Python may set it
        return False


def is_bug_in_resolver(error: BaseException) -> bool:
    """Whether a resolver of micota raised an exception, which OmegaConf wraps into an error of its own.

    A mistake in a value (``${oc.env:NAME}`` without such a variable) is raised by OmegaConf's resolvers.
    """
    raised: BaseException | None = error if isinstance(error, InterpolationResolutionError) else None
    while isinstance(raised, OmegaConfBaseException):  # it keeps what it wraps as a cause only with OC_CAUSE=1
        raised = raised.__cause__ or raised.__context__
    if raised is None:
        return False
    frames = [frame for frame, _ in traceback.walk_tb(raised.__traceback__)]
    return not frames[-1].f_globals["__name__"].startswith("omegaconf.")


def explain(error: OmegaConfBaseException, schema: type[Config], where: str = "config") -> str:
    """One line for an OmegaConf error: full key (``where`` if the error has none), the value seen, the accepted
    form."""
    key = error.full_key or str(error.key or where)
    text = str(error.msg or error).splitlines()[0]
    if isinstance(error, InterpolationResolutionError):
        return f"{key}: {text}; accepted: {accepted_at(schema, key)}"
    if isinstance(error, MissingMandatoryValue):
        return f"{key} is not set; accepted: {accepted_at(schema, key)}"
    if removed := re.search(r"missing \d+ required keyword-only arguments?: '(\w+)'", text):
        key = f"{error.full_key}.{removed[1]}" if error.full_key else removed[1]
        return f"{key} is removed, and every command needs it; accepted: {accepted_at(schema, key)}"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return unknown_key(schema, key)
    return f"{key}: {text}; accepted: {accepted_at(schema, key)}"


def unknown_key(schema: type[Any], key: str, path: str = "") -> str:
    """One line for a dotted key that is not in the schema (which is at ``path``): its new name where it has one,
    else the nearest known key."""
    if f"{path}{key}" == "sweep":
        return SWEEP
    if (renamed := renamed_key(f"{path}{key}")) is not None:
        return renamed
    *parents, last = key.split(".")
    if not path and is_group_of_models(schema, key):
        rest = key.removeprefix("model")
        accepted = ", ".join(f"{role}{rest or '=OPTION'}" for role in roles_of(schema))
        return f"{key}: every model has a role; accepted: {accepted}"
    owner: Any = schema
    for depth, name in enumerate(parents):
        owner = child_schema(owner, name)
        if owner is None:
            return unknown_key(schema, ".".join(parents[: depth + 1]), path)
    if get_origin(owner) is dict:
        return f"{path}{key}: no such key yet; accepted: +{path}{key}=VALUE, which adds it"
    if not is_dataclass(owner):
        parent = path + ".".join(parents)
        return f"{path}{key}: {parent} is a value, with no key below it; accepted: {parent}=VALUE"
    of_users = [item for item in fields(owner) if not declaration(item).internal]
    options = [item.name for item in of_users]
    return f"{path}{key}: no such key{close_to(last, options)} accepted: {', '.join(options)}"


def no_map(node: Any, owner: Any, key: str = "") -> str | None:
    """The first dotted key of a file at which another value stands where the schema ``owner`` has a map; or None."""
    if node is None or not (is_dataclass(owner) or get_origin(owner) is dict):
        return None
    if not isinstance(node, dict):
        return key
    below = ((name, child, child_schema(owner, str(name))) for name, child in node.items())
    keys = (no_map(child, kind, f"{key}.{name}".lstrip(".")) for name, child, kind in below)
    return next((found for found in keys if found is not None), None)


def below_a_value(schema: type[Any], key: str) -> bool:
    """Whether a dotted key goes on below a field that is a single value, or is no field at all."""
    owner: Any = schema
    for name in key.split("."):
        if get_origin(owner) is dict and not is_dataclass(get_args(owner)[1]):
            return False
        if not is_dataclass(owner) and get_origin(owner) is not dict:
            return True
        owner = child_schema(owner, name)
    return False


def is_group_of_models(schema: type[Any], key: str) -> bool:
    """Whether a key names the group ``model``, whose options are chosen for roles; ``evaluate`` has a key ``model``."""
    return key.partition(".")[0] == "model" and "model" not in (item.name for item in fields(schema))


def close_to(word: str, options: Iterable[str]) -> str:
    """``; did you mean 'OPTION'?`` with the option most like ``word``, or ``;`` where none is like it."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ";"


def child_schema(owner: Any, name: str) -> Any:
    """The type of the field ``name`` (a dataclass where it is one), or of a dict's values; None if there is none."""
    if get_origin(owner) is dict:
        return get_args(owner)[1]
    kind = get_type_hints(owner).get(name) if is_dataclass(owner) else None
    return next((part for part in get_args(kind) if is_dataclass(part)), kind) if get_origin(kind) is not dict else kind


def accepted_at(schema: type[Any], key: str) -> str:
    """The values that the field at a dotted key accepts, in words."""
    owner: Any = schema
    words = ""
    for name in key.split("."):
        item = next((f for f in fields(owner) if f.name == name), None) if is_dataclass(owner) else None
        # An entry of a map is described with the map.
        words = str(declaration(item).accepted) if item else words if get_origin(owner) is dict else ""
        owner = child_schema(owner, name)
    if is_dataclass(owner) and issubclass(owner, OtherModelConfig):  # type: ignore[arg-type]
        return f"{key}.path=PATH, or null for none, and model@{key}=OPTION"
    if is_dataclass(owner) or (get_origin(owner) is dict and is_dataclass(get_args(owner)[1])):
        return words or "a map of settings, as the options of its group have them"
    kind = in_words(owner)
    return f"{words} ({kind})" if words and kind not in words else kind


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def in_words(kind: Any) -> str:
    """A type of values in words, as ``a list (of numbers)``; any type where none is known."""
    if get_origin(kind) is list:
        return "a list"
    if get_origin(kind) is dict:
        return "a map, as {KEY: VALUE}"
    if get_args(kind):
        return " or ".join(in_words(one) for one in get_args(kind))
    return WORDS.get(kind, "a value of another form")


def override_key(override: str) -> str:
    """The key of a command-line override, without the signs that add or remove it."""
    return override.partition("=")[0].lstrip("+~")


def without_keys(overrides: list[str], keys: set[str]) -> list[str]:
    """Command-line overrides without those of the given keys."""
    return [item for item in overrides if override_key(item) not in keys]


def of_every_command(overrides: list[str]) -> list[str]:
    """Command-line overrides without those of keys that some command has and others do not, as ``hub.repo=a/b``."""
    keys = keys_of_commands()
    return [item for item in overrides if override_key(item).partition(".")[0] not in keys]


def keys_of_commands() -> set[str]:
    """The keys that some command has and others do not."""
    shared = {item.name for item in fields(Config)}
    return {item.name for schema in SCHEMAS.values() for item in fields(schema)} - shared


def spelled_out(overrides: list[str]) -> list[str]:
    """Return the overrides of short keys of one command (``num_samples=8``), as overrides of the keys they set."""
    short = {item.name: item for schema in SCHEMAS.values() for item in fields(schema) if declaration(item).short_for}
    words = []
    for item in overrides:
        name, value = override_key(item), item.partition("=")[2]
        if name in short and value != "null":
            declared = declaration(short[name])
            words += [f"{declared.short_for}={value}", *declared.short_sets]
    return words


def apply_short_keys(composed: DictConfig, schema: type[Config], overrides: list[str]) -> None:
    """Set the keys that short keys of the command stand for, in a composed config; a key that is an override itself
    stays."""
    given = set(map(override_key, overrides))
    for item in fields(schema):
        declared = declaration(item)
        value = OmegaConf.select(composed, item.name) if declared.short_for else None
        if value is None or declared.short_for in given:
            continue
        OmegaConf.update(composed, declared.short_for, value)
        for name, _, word in (word.partition("=") for word in declared.short_sets):
            if name not in given:
                OmegaConf.update(composed, name, {"true": True, "false": False}[word])


def arguments_for(overrides: list[str], choose: Mapping[str, str], command: str = "") -> list[str]:
    """The overrides with which ``command`` makes a node, given those of the present command."""
    # What is compared determines no artifact.
    compared = {key for item in overrides if (key := override_key(item)).partition(".")[0] == "compare"}
    chosen = compared | {"data", "plan", *map(override_key, choose)}
    foreign = keys_of_commands() - (_parts_of(command) if command else set())
    kept = [item for item in without_keys(overrides, chosen) if override_key(item).partition(".")[0] not in foreign]
    return [*(f"{key}={value}" for key, value in choose.items()), *spelled_out(overrides), *kept]


def _parts_of(command: str) -> set[str]:
    """The parts of a command's config that no other command needs and that determine what it makes, as ``model``."""
    own = [item for item in fields(SCHEMAS[command]) if item.name in keys_of_commands()]
    return {item.name for item in own if declaration(item).results and not declaration(item).short_for}


def command_line(call: Call, command: str, choose: Mapping[str, str]) -> str:
    """The line that makes a node when it is pasted into a shell, given the present command."""
    return call.line(command, arguments_for(call.overrides, choose, command))
