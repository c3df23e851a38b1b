"""Which errors of Hydra and OmegaConf are mistakes of the user, and the one line for each."""

from __future__ import annotations

import re
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from micota import errors
from micota.cli.config_files import mistake_in
from micota.config import (
    SCHEMAS,
    Call,
    Config,
    close_to,
    conf_folder,
    explain,
    is_bug_in_resolver,
    override_key,
    unknown_key,
)
from micota.config.parse import accepted_at, below_a_value, is_group_of_models, no_map
from micota.config.quoting import quoted_value
from micota.config.renamed import renamed_override
from micota.shell import shell_line

IN_FILE = re.compile(
    r"In '(?P<file>.*?)': \w+ raised while composing config: (?P<text>.*?) full_key: (?:(?P<key>[^\s=]+)(?:\s|$))?",
    re.DOTALL,
)
OF_DEFAULTS = {  # how errors about lists of defaults begin, and the accepted form
    "Multiple values for": "override /GROUP: OPTION, for a group that has an option already",
    "Ambiguous value for argument": "KEY='A,B' for a text, KEY=[A,B] for a list, and -m for a sweep",
    "Duplicate _self_": "one _self_ in a list of defaults",
    "Error resolving interpolation": "defaults: [OPTION, GROUP: OPTION, _self_], by their names",
}
UNREAD = (  # how the parser of overrides begins its messages
    "Error parsing override",
    "LexerNoViableAltException",
    "no viable alternative",
)


def is_users(error: BaseException) -> bool:
    """Whether an exception is a user error; any other is a bug of micota and shows its traceback."""
    if isinstance(error, RuntimeError) and "srun" in str(error):  # of submitit, which has no class for it
        return True
    if is_bug_in_resolver(error):
        return False
    is_of_config = isinstance(error, HydraException | OmegaConfBaseException) or mistake_in(error) is not None
    return errors.is_users(error) or is_of_config


def one_line(error: BaseException, schema: type[Config], call: Call | None = None) -> str:
    """The text of a user's error: the key or file, the value seen and the accepted form, on one line."""
    overrides = call.overrides if call else []
    if (mistake := mistake_in(error)) is not None:
        nulls = [item for item in overrides if item.endswith("=null")] if "override" in mistake else []
        return f"{' '.join(nulls)}: {mistake}" if nulls else mistake
    if isinstance(error, OmegaConfBaseException | HydraException):
        for override in overrides:
            if (renamed := renamed_override(override)) is not None:
                return renamed
            if is_group_of_models(schema, override_key(override)):
                return unknown_key(schema, override_key(override))
            if _goes_too_deep(schema, override_key(override)):
                return _with_value(unknown_key(schema, override_key(override)), overrides)
    if isinstance(error, OmegaConfBaseException):
        keys = [override_key(item) for item in overrides if "${" in item]  # Hydra's errors may lack the key
        return _with_value(explain(error, schema, keys[0] if keys else "config"), overrides)
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        return one_line(error.__cause__, schema, call)
    if isinstance(error, RuntimeError):
        return f"{error} Accepted elsewhere: hydra/launcher=submitit_local, or basic"
    if isinstance(error, OverrideParseException) or str(error).startswith(UNREAD):
        word = _unread(error, overrides)
        key, _, value = word.partition("=")
        typed = f"{key}={quoted_value(value)}" if key and value else "KEY='VALUE'"
        plain = typed.isprintable() and not set(typed) & set('"$`\\!')
        typed = f'"{typed}"' if plain else shell_line([typed])
        return f"{word}: it cannot be read; accepted: KEY=VALUE, and a value with special signs in quotes: {typed}"
    return _hydra_mistake(errors.text_of(error), schema, call)


def _goes_too_deep(schema: type[Config], key: str) -> bool:
    return "@" not in key and key.partition(".")[0] != "hydra" and below_a_value(schema, key)


def _with_value(line: str, overrides: list[str]) -> str:
    """A line with the value of the override that it is about; errors of OmegaConf name the key alone."""
    for override in overrides:
        key = override_key(override)
        if line.startswith(f"{key}: ") and "=" in override:
            return f"{key}={override.partition('=')[2]}{line.removeprefix(key)}"
    return line


def _unread(error: BaseException, overrides: list[str]) -> str:
    """The override that Hydra cannot parse, which its errors name in different forms or not at all."""
    named = getattr(error, "override", None)
    text = str(error).splitlines()[0]
    return str(named or next((item for item in overrides if item in text), text))


def _hydra_mistake(text: str, schema: type[Config], call: Call | None) -> str:
    """The line for an error of Hydra about a group, an option or a key."""
    option = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if option:
        known = re.search(r"Available options in '([^']+)':", text)
        group = known.group(1) if known else option.group(1).partition("/")[0]
        return _no_option(group, option.group(1).removeprefix(f"{group}/"), text, call)
    if key := re.search(r"Could not override '([^']*)'", text):
        if not key[1]:
            return "an override has no key; accepted: KEY=VALUE"
        return unknown_key(schema, key.group(1))
    if key := re.search(r"(In '.*': )ConfigKeyError .* full_key: (\S+)", text):
        return key.group(1) + unknown_key(schema, key.group(2))
    if key := re.search(r"(In '.*': )ValidationError .*DictConfig.* full_key: sweep ", text):
        return key.group(1) + unknown_key(schema, "sweep")
    if key := re.match(r"Could not delete from config\. '([^']*)'", text):
        return f"~{key[1]}: there is no such key to remove; accepted: ~KEY of a key that is there"
    if key := re.match(r"Could not append to config\. An item is already at '([^']*)'", text):
        return f"+{key[1]}: the key is there already; accepted: {key[1]}=VALUE, without a plus"
    if found := IN_FILE.match(text):
        return _in_file(found["file"], found["text"], found["key"] or "", schema, call)
    accepted = next((words for start, words in OF_DEFAULTS.items() if text.startswith(start)), "")
    return f"{text.rstrip('.')}; accepted: {accepted}" if accepted else text


def _in_file(file: str, text: str, key: str, schema: type[Config], call: Call | None) -> str:
    """The line for a value of a file that does not fit the schema. Hydra's error lacks the key of what is no map."""
    if not key or key in SCHEMAS:
        folders = [conf_folder(), *(Path(flag) for flag in (call.flags if call else []) if Path(flag).is_dir())]
        paths = [folder / f"{file}.yaml" for folder in folders]
        content = next((OmegaConf.load(path) for path in reversed(paths) if path.is_file()), None)
        if not isinstance(content, DictConfig):
            return f"In '{file}': {text}; accepted: a map, as KEY: VALUE"
        key = no_map(OmegaConf.to_container(content, resolve=False), schema) or "config"
    return f"In '{file}': {key}: {text}; accepted: {accepted_at(schema, key)}"


def _no_option(group: str, name: str, text: str, call: Call | None) -> str:
    """The line for an option that a group does not have, with the nearest one."""
    given, flags = (call.overrides, call.flags) if call else ([], [])
    folders = [conf_folder(), *(Path(flag) for flag in flags if Path(flag).is_dir())]
    paths = [path.relative_to(folder / group) for folder in folders for path in (folder / group).rglob("*.yaml")]
    stored = {Path(option).stem for option in ConfigStore.instance().repo.get(group, {})}
    options = sorted({str(path.with_suffix("")) for path in paths if not path.name.startswith("_")} | stored)
    if not options:  # of a group of Hydra, which has its options elsewhere and lists them
        options = text.partition(f"Available options in '{group}':")[2].partition("Config search path")[0].split()
    if not options:
        return f"{group}={name}: there is no such group; accepted: GROUP=OPTION of the groups that --help lists"
    at = next((override_key(item) for item in given if item.endswith(f"={name}") and "@" in item), group)
    return f"{at}={name}: no such option{close_to(name, options)} accepted: {', '.join(options)}"
