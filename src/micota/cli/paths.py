"""An overridden path resets the facts that the option states about the replaced path.

``student=tiny student.path=Qwen/X`` must not request the revision of the toy model from another repository, nor name
the other model tiny_student. The columns of one benchmark are not those of another. So facts of a path (fields declared
with ``of_path``) that an option or any YAML set before the path go back to their defaults, and the name follows from
the path. Facts that are set with the path or after it stay. All other keys of the option stay too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from micota.config import DataConfig, PartConfig, override_key
from micota.config.fields import declaration
from micota.config.models import is_model_path, name_of

# Options of these groups describe a path. Any other file that sets a path replaces theirs.
OPTIONS = ("model", "problems", "bench", "data")
PATH = re.compile(r"(^|[{,])\s*path:(?!\s*null)", re.MULTILINE)
Layer = dict[str, Any]  # dotted keys that one file, or one override, sets


def settle_paths(composed: DictConfig, name: str, overrides: list[str]) -> None:
    """Drop the facts of replaced paths from a composed config.

    Args:
        composed: changed in place.
        name: of the config that was composed, as ``train``.
        overrides: of the command line.
    """
    _settle_generators(composed, overrides)
    given = any(re.search(r"\bpath[=:]|_path_of_|\bdata\.name=|hydra\.searchpath", override) for override in overrides)
    if not given and not any(_sets_paths(Path(source.path)) for source in _folders()):
        return  # the layers would take Hydra a tenth of a second
    layers, options = _layers(name, overrides)
    for key in sorted({key for layer in layers for key in layer if key.rpartition(".")[2] == "path"}):
        _settle(composed, key.rpartition(".")[0], layers)
    for part, option in options.items():  # printed commands choose the option, whatever name its recipe has now
        owner = OmegaConf.select(composed, part)
        if isinstance(owner, DictConfig) and OmegaConf.get_type(owner) is DataConfig and owner.name != option:
            owner.option = option


def _settle_generators(composed: DictConfig, overrides: list[str]) -> None:
    """Turn ``generator: PATH`` of every recipe into ``generator: model`` with ``model.path``. A recipe whose generator
    the command line replaces is named after it, unless the command line names it."""
    given = {override_key(override) for override in overrides}
    objective = composed.get("objective")  # its teacher is named in the same way
    if objective is not None and is_model_path(str(objective.teacher)):
        path, objective.teacher = objective.teacher, "model"
        objective.model.path = path
    for part, owner in list(_recipes(composed, "")):
        if not is_model_path(str(owner.generator)):
            continue
        path, owner.generator = owner.generator, "model"
        owner.model.path = path
        if f"{part}.generator" in given and f"{part}.name" not in given:
            if OmegaConf.get_type(owner) is DataConfig:
                owner.option = owner.option or owner.name
            owner.name = name_of(path)


def _recipes(node: DictConfig, path: str) -> Iterator[tuple[str, Any]]:
    """All recipes and their parts in a composed config, with their dotted keys."""
    for name, child in node.items_ex(resolve=False):
        if not isinstance(child, DictConfig) or child._is_none() or child._is_missing() or child._is_interpolation():
            continue
        key, kind = f"{path}{name!s}", OmegaConf.get_type(child)
        if isinstance(kind, type) and issubclass(kind, PartConfig):
            yield key, child
        yield from _recipes(child, f"{key}.")


def _settle(composed: DictConfig, part: str, layers: list[Layer]) -> None:
    """Drop facts about replaced paths from the part of the config at the dotted key ``part``."""
    owner = OmegaConf.select(composed, part)
    schema = OmegaConf.get_type(owner) if isinstance(owner, DictConfig) else None
    if not is_dataclass(schema) or owner.get("path") is None:
        return
    last = max(index for index, layer in enumerate(layers) if f"{part}.path" in layer)
    replaced = {layer[f"{part}.path"] for layer in layers[:last] if layer.get(f"{part}.path")} - {owner.path}
    if not replaced and not issubclass(schema, PartConfig):  # a recipe's path replaces its generator
        return
    for item in fields(schema):
        key = f"{part}.{item.name}"
        # A map is also given by one of its entries (+bench.easy.types.Even=number).
        since = {name for layer in layers[last:] for name in layer if f"{name}.".startswith(f"{key}.")}
        if declaration(item).of_path and not since:
            default = item.default_factory() if item.default_factory is not MISSING else item.default
            owner[item.name] = name_of(owner.path) if item.name == "name" else default


def _layers(name: str, overrides: list[str]) -> tuple[list[Layer], dict[str, str]]:
    """Return the keys that each file and then the command line set, in the order of merging; and by dotted key of a
    part the option of the group ``data`` there."""
    loader = GlobalHydra.instance().config_loader()
    # Hydra has no public API for the file that a value is from. These are its first steps to compose a config.
    parsed, repository = loader._parse_overrides_and_create_caching_repo(name, overrides)  # type: ignore[attr-defined]
    merged = create_defaults_list(
        repo=repository, config_name=name, overrides_list=parsed, prepend_hydra=True, skip_missing=False
    )
    layers, options = [], {}
    for default in merged.defaults:
        path, part = default.config_path or "", default.package or ""
        loaded = repository.load_config(path) if path and not path.endswith("_schema") else None
        if loaded is not None:
            prefix = f"{part}." if part else ""
            layers.append(dict(_flat(OmegaConf.to_container(loaded.config, resolve=False), prefix)))
        if path.startswith("data/") and part:
            options[part] = path.removeprefix("data/")
    words: Layer = {}  # of the command line, where the order of overrides does not matter
    for override in merged.config_overrides:
        if not override.is_delete():
            words |= _flat({override.key_or_group: override.value()}, "")
    return [*layers, words], options


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys of nested maps, with their values."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _folders() -> list[Any]:
    return [source for source in GlobalHydra.instance().config_loader().get_sources() if source.scheme() == "file"]


_known: dict[Path, tuple[float, bool]] = {}


def _sets_paths(folder: Path) -> bool:
    """Whether a file of a folder of configs may replace the path of an option."""
    folder = Path(str(folder).removeprefix("file://"))
    return any(_file_sets_paths(path, folder) for path in folder.rglob("*.yaml"))


def _file_sets_paths(path: Path, folder: Path) -> bool:
    changed = path.stat().st_mtime
    if path not in _known or _known[path][0] != changed:
        text = path.read_text(encoding="utf-8", errors="replace")  # Hydra names a file that it cannot read
        group = path.relative_to(folder).parts[0]
        is_option = group in OPTIONS or (group == "data" and f"name: {path.stem}\n" in text)
        is_option = is_option and "defaults" not in text
        _known[path] = changed, bool(PATH.search(text)) and not is_option
    return _known[path][1]
