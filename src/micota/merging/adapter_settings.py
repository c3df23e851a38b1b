"""The settings of a LoRA adapter: those that are known to leave the formula ``W + s B A`` as it is, and no others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from micota.errors import ConfigError
from micota.pretrained import ADAPTER, reading

PLAIN = "accepted: LoRA of linear layers; another kind must be merged into its model with peft first"
# Settings of peft's LoraConfig that change nothing of how an adapter is merged, or that are read. Any other must have
# its default: a setting that is not known here may change the base weights or the formula.
KNOWN = frozenset((
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "bias", "use_rslora"),
    *("modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern"),
    *("runtime_config", "megatron_config", "megatron_core", "eva_config", "fan_in_fan_out"),
))  # fmt: skip
# Starts of A and B that leave the base weights as they are; PiSSA, OLoRA, CorDA and LoftQ change them.
STARTS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdapterSettings:
    """What decides how an adapter changes its model."""

    folder: Path
    model: tuple[str, str | None]  # folder or hub id, and revision
    rank: int
    alpha: float
    ranks: Mapping[str, int]  # by patterns of module names
    alphas: Mapping[str, float]
    is_rank_stabilised: bool

    def scale(self, module: str, rank: int) -> float:
        """The factor of ``B A`` of a module: ``alpha / r`` (arXiv 2106.09685), or ``alpha / sqrt(r)`` of rsLoRA (arXiv
        2312.03732).

        Args:
            module: its name in the loaded model, which patterns match.
            rank: the number of rows of its A.

        Raises:
            ConfigError: the settings have another rank.
        """
        expected = self.ranks.get(_pattern(self.ranks, module), self.rank)
        if rank != expected:
            raise ConfigError(
                f"{self.folder}: A of {module} has {rank} rows, and {ADAPTER} has rank {expected}; accepted: the files "
                "of one adapter"
            )
        alpha = self.alphas.get(_pattern(self.alphas, module), self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def _pattern(patterns: Mapping[str, Any], module: str) -> str:
    from peft.utils.other import get_pattern_key

    return str(get_pattern_key(list(patterns), module))


def read_settings(folder: Path) -> AdapterSettings:
    """The settings of the adapter in a folder.

    Raises:
        ConfigError: they cannot be read, or are not of plain LoRA; the text names the setting.
    """
    with reading(folder, None, ADAPTER):
        settings = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError(f"it is a {type(settings).__name__}")
    _check(folder, settings)
    model = settings.get("base_model_name_or_path")
    if not isinstance(model, str) or not model:
        raise ConfigError(
            f"{folder / ADAPTER} has base_model_name_or_path={model!r}; accepted: the folder or hub id of its model"
        )
    ranks, alphas = (settings.get(key) or {} for key in ("rank_pattern", "alpha_pattern"))
    _check_numbers(folder, {"r": settings.get("r", 8), **_named("rank_pattern", ranks)}, (int,))
    _check_numbers(
        folder, {"lora_alpha": settings.get("lora_alpha", 8), **_named("alpha_pattern", alphas)}, (int, float)
    )
    for name in (*ranks, *alphas):
        try:
            re.compile(name)
        except re.error as error:
            raise ConfigError(
                f"{folder / ADAPTER} has pattern {name!r} ({error}); accepted: names or regular expressions of modules"
            ) from None
    return AdapterSettings(
        folder=folder, model=(model, settings.get("revision")), rank=settings.get("r", 8),
        alpha=settings.get("lora_alpha", 8), ranks=ranks, alphas=alphas,
        is_rank_stabilised=bool(settings.get("use_rslora")),
    )  # fmt: skip


def _check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse settings that are not known. The file is read and not peft's class, which drops what it does not know."""
    from peft import LoraConfig

    if settings.get("peft_type") != "LORA":
        raise ConfigError(f"{folder}: the adapter is of type {settings.get('peft_type')}; {PLAIN}")
    plain = LoraConfig()
    defaults = {item.name: getattr(plain, item.name) for item in fields(plain)}
    for name, value in settings.items():
        is_known = value in STARTS if name == "init_lora_weights" else name in KNOWN
        if not is_known and value and value != defaults.get(name):
            raise ConfigError(f"{folder}: the adapter has {name}={value!r}; {PLAIN}")


def _named(key: str, patterns: Any) -> dict[str, Any]:
    if not isinstance(patterns, dict):
        return {key: patterns}
    return {f"{key}.{name}": value for name, value in patterns.items()}


def _check_numbers(folder: Path, values: Mapping[str, Any], kinds: Sequence[type]) -> None:
    for name, value in values.items():
        is_number = isinstance(value, tuple(kinds)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= 0:
            raise ConfigError(f"{folder / ADAPTER} has {name}={value!r}; accepted: a number above 0")
