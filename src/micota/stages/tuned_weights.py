"""What a plan knows of the weights that a training changes, from the headers of their files, without torch."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from micota.config import Config, LoraConfig
from micota.config.models import models_of
from micota.config.sft import ALL_LINEAR, is_at
from micota.costs.sizes import known_shapes, shape_of
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.graph import SourceSpec, TrainSpec
from micota.graph.node import Node
from micota.sft.freezing import matches

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Names of weights that are those of modules. Others, as of experts or of images, are renamed when a model is loaded.
PREFIXES, RENAMED = ("model.", "lm_head."), (".experts.", ".language_model.", ".vision")
NOT_ADAPTED = ("embed", "norm", "lm_head")


def check(config: Config, node: Node[TrainSpec], source: SourceSpec, key: str) -> None:
    """Refuse patterns of weights that match none, and adapters of more than full rank.

    Args:
        source: the model before its first training; ``key`` is the part of the config that names it.

    Raises:
        ConfigError: the text names the key.
    """
    sft = node.spec.sft
    if sft.lora is not None and sft.lora.r is not None:
        _check_rank(config, node, sft.lora.r, key)
    names = _names(model_folder(source.path))
    if not names:
        return
    for pattern in sft.freeze:
        if not any(matches(pattern, name) for name in names):
            raise ConfigError(
                f"{key}.sft.freeze={list(sft.freeze)}: {pattern!r} matches no weight of {source.path}; accepted: "
                f"modules or weights, as {names[0]!r}, or regular expressions of full names of weights"
            )
    if sft.lora is not None:
        _check_targets(sft.lora, names, source, key)


def _check_targets(lora: LoraConfig, names: tuple[str, ...], source: SourceSpec, key: str) -> None:
    modules = [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
    linear = [name for name in modules if not any(part in name.rsplit(".", 1)[-1] for part in NOT_ADAPTED)]
    for target in lora.targets:
        if target != ALL_LINEAR and linear and not any(is_at(target, name) for name in linear):
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
            raise ConfigError(
                f"{key}.sft.lora.targets={lora.targets}: {target!r} is no linear layer of {source.path}; accepted: "
                f"{known}, regular expressions of full names, as {linear[0]!r}, or [{ALL_LINEAR}]"
            )


def _check_rank(config: Config, node: Node[TrainSpec], rank: int, key: str) -> None:
    """Refuse a rank above that of every weight: such adapters are larger than the weights, and can learn no more."""
    shape = shape_of(node.inputs["model"], known_shapes([model for _, model in models_of(config)]))
    if shape is not None and rank > shape.hidden:
        raise ConfigError(
            f"{key}.sft.lora.r={rank} with a model of hidden size {shape.hidden}, which bounds the rank of its "
            f"weights; accepted: at most {shape.hidden}, or null, which trains the weights themselves"
        )


@cache
def _names(folder: str) -> tuple[str, ...]:
    """The names of the weights of a folder of this machine; none where they are not those of modules, or not here."""
    try:
        if (index := Path(folder) / INDEX).is_file():
            names = [*json.loads(index.read_text(encoding="utf-8"))["weight_map"]]
        elif (single := Path(folder) / SINGLE).is_file():
            with safe_open(single, "numpy") as file:
                names = [*file.keys()]
        else:
            return ()
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):  # what reads the weights names the file
        return ()
    plain = all(name.startswith(PREFIXES) and not any(part in name for part in RENAMED) for name in names)
    # A tied output layer is in no file.
    return tuple(sorted({*names, "lm_head.weight"})) if plain else ()
