"""Hydra composes the same configs in about half of the time.

A plan composes some dozens of configs, and Hydra repeats work for each file of each of them. Importing this module
replaces functions of Hydra and OmegaConf by quicker ones with the same results. Tests compare whole configs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig
from omegaconf.base import Container, Metadata

from micota.cli.config_files import check_aliases

_load = ConfigRepository.load_config
_interpolation_map = defaults_list._create_interpolation_map
_merge_defaults = ConfigLoaderImpl._compose_config_from_defaults_list
_set_parents = Container._re_parent

# By file, source and who provides it: which state of the file was read, and what it said.
_files: dict[tuple[str, str, str], tuple[tuple[int, ...], ConfigResult | None]] = {}
_num_merging = 0


def _load_file_once(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
    """What a YAML file says, read again only after it has changed: PyYAML takes longer than a copy.

    Hydra executes the modules of its sources again when it looks for plugins, so no function of those can be replaced.
    """
    source: Any = repository._find_object_source(config_path, ObjectType.CONFIG)
    if source is None or source.scheme() != "file":
        return _load(repository, config_path)
    path = str(Path(source.path.removeprefix("file://"), source._normalize_file_name(config_path)).resolve())
    try:
        stat = Path(path).stat()
    except OSError:
        return _load(repository, config_path)
    state, key = (stat.st_mtime_ns, stat.st_size, stat.st_ino), (path, source.path, source.provider)
    if key not in _files or _files[key][0] != state:
        check_aliases(path)
        _files[key] = state, _load(repository, config_path)
    return copy.deepcopy(_files[key][1])


def _copied(metadata: Metadata, memo: dict[int, Any]) -> Metadata:
    """A copy of what OmegaConf knows of a node. But for flags and results of resolvers it is types and a key, which
    :func:`copy.deepcopy` takes apart and puts together again for each of a thousand nodes."""
    copied = object.__new__(type(metadata))
    copied.__dict__.update(metadata.__dict__)
    copied.flags = copy.copy(metadata.flags)
    copied.resolver_cache = copy.deepcopy(metadata.resolver_cache, memo)
    return copied


def _interpolation_map_if_needed(overrides: Any, defaults: Sequence[InputDefault], self_added: bool) -> Any:
    """Hydra makes a config of all choices for each file, and reads it only where a choice is an interpolation."""
    if any(default.is_interpolation() for default in defaults):
        return _interpolation_map(overrides, list(defaults), self_added)
    return None


def _merge_defaults_quickly(loader: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> Any:
    """Files are merged one after the other; the nodes of the whole config get their parents once, after the last."""
    global _num_merging
    _num_merging += 1
    try:
        merged = _merge_defaults(loader, *args, **kwargs)
    finally:
        _num_merging -= 1
    merged._re_parent()
    return merged


def _set_parents_of_parts(container: Container) -> None:
    """Hydra's flag for nodes that need no copy is, while it merges, that of the whole config alone."""
    if not (_num_merging and container._get_parent() is None and container._get_node_flag("no_deepcopy_set_nodes")):
        _set_parents(container)


QUICKER = [
    # Hydra copies the store of all options for each composition, and again each option that it reads: that is enough.
    (ConfigStore, "__deepcopy__", lambda store, memo: store),
    (ConfigRepository, "load_config", _load_file_once),
    (defaults_list, "_create_interpolation_map", _interpolation_map_if_needed),
    (ConfigLoaderImpl, "_compose_config_from_defaults_list", _merge_defaults_quickly),
    (Container, "_re_parent", _set_parents_of_parts),
    (Metadata, "__deepcopy__", _copied),
]
for _owner, _name, _function in QUICKER:
    setattr(_owner, _name, _function)


def compose(command: str, overrides: list[str], merged: dict[Any, DictConfig]) -> DictConfig:
    """What ``hydra.compose`` gives. Hydra, which must be initialised, merges the files of a choice of options once.

    Values are set on a copy, as Hydra itself sets them after it has merged the files: that takes a tenth of the time.

    Args:
        command: generate, train, merge, evaluate, pipeline or report.
        overrides: as Hydra takes them.
        merged: configs without values, by command and options, for as long as no file and no option changes.

    Raises:
        Exception: that of Hydra, for whatever it refuses.
    """
    parsed = OverridesParser.create().parse_overrides(overrides=overrides)
    if any(override.is_sweep_override() for override in parsed):
        return hydra.compose(command, overrides)  # which refuses it
    options = {override.get_key_element() for override in parsed if _is_of_files(override)}
    is_option = [override.get_key_element() in options for override in parsed]
    chosen = [str(override.input_line) for override in itertools.compress(parsed, is_option)]
    if (command, *chosen) not in merged:
        merged[command, *chosen] = hydra.compose(command, chosen)
    config = copy.deepcopy(merged[command, *chosen])
    values = [override for override, is_of_files in zip(parsed, is_option, strict=True) if not is_of_files]
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config


def _is_of_files(override: Any) -> bool:
    """Whether an override chooses files, or is of Hydra itself, whose settings a composed config lacks."""
    repository: Any = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    key = override.key_or_group
    return override.package is not None or override.is_hydra_override() or repository.group_exists(key)
