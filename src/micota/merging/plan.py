"""The settings of a merge for one tensor: gradients over layers and values by module, as in mergekit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micota.config.fields import fits_all
from micota.errors import ConfigError
from micota.graph import MergeSpec
from micota.merging.masks import Key, mask_key

_LAYER = re.compile(r"^((?:.*?\.)?[A-Za-z_]+)\.(\d+)\.")  # the first number of a name: model.layers.3., h.3.


@dataclass(frozen=True)
class Share:
    """Weight and density of one fine-tuned model in one tensor; ``key`` seeds its mask."""

    weight: float
    density: float
    key: Key


def shares(spec: MergeSpec, num_models: int, tensor: str, depth: float) -> list[Share]:
    """The shares of the model after SFT and, where there is one, of the model before it, in one tensor."""
    settings = [(spec.weight, spec.density), (spec.instruct_weight, spec.instruct_density)]
    result = []
    for model, (weight, density) in enumerate(settings[:num_models]):
        share = Share(
            weight=value_at(weight, tensor, depth),
            density=value_at(density, tensor, depth),
            # By the model's number and the tensor's name: with one mask, two models would drop the same elements.
            key=mask_key(spec.seed, model, tensor),
        )
        result.append(share)
    return result


def value_at(setting: Any, tensor: str, depth: float) -> float:
    """The value for a tensor at ``depth`` (0 the first layer, 1 the last).

    Args:
        setting: a number; or a list of numbers, spread evenly over the layers and interpolated linearly; or a list of
            ``{filter, value}``, of which the first counts whose filter is missing or part of the tensor's name.

    Raises:
        ConfigError: no filter fits the tensor.
    """
    if not isinstance(setting, list):
        return float(setting)
    if not isinstance(setting[0], dict):
        # Piecewise linear between values at equal distances, as a gradient in mergekit.
        position = depth * (len(setting) - 1)
        left = min(int(position), len(setting) - 1)
        right = min(left + 1, len(setting) - 1)
        return float((1 - (position - left)) * setting[left] + (position - left) * setting[right])
    for item in setting:
        if fits_all(item) or item["filter"] in tensor:
            return value_at(item["value"], tensor, depth)
    raise ConfigError(f"no filter of {setting} fits {tensor}; accepted: a value without a filter at the end")


def depths(tensors: Sequence[str]) -> dict[str, float]:
    """The depth of each tensor, from 0 (the first layer) to 1 (the last of its stack of layers); 0 for a tensor outside
    the layers. A stack is what stands before the number of a layer, as ``model.layers``, ``h`` or a vision tower's."""
    found = {name: match for name in tensors if (match := _LAYER.search(name))}
    last: dict[str, int] = {}
    for match in found.values():
        last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    return {name: _depth(found[name], last) if name in found else 0.0 for name in tensors}


def layer_of(tensor: str) -> str | None:
    """The beginning of the names of all tensors of a tensor's layer, as ``model.layers.3.``; None outside of layers."""
    match = _LAYER.search(tensor)
    return None if match is None else match[0]


def _depth(match: re.Match[str], last: Mapping[str, int]) -> float:
    return int(match[2]) / last[match[1]] if last[match[1]] else 1.0
