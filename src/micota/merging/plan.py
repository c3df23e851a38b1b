"""What a recipe means for one tensor: gradients over layers and values by module, as mergekit has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from micota.errors import ConfigError
from micota.graph import MergeSpec
from micota.merging.masks import Key, mask_key

_LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Share:
    """What one fine-tuned model brings to one tensor; ``key`` draws its mask."""

    weight: float
    density: float
    key: Key


def shares(spec: MergeSpec, num_models: int, tensor: str, depth: float) -> list[Share]:
    """The shares of the model after SFT and, where there is one, of the model before it, in one tensor."""
    settings = [(spec.weight, spec.density), (spec.instruct_weight, spec.instruct_density)]
    found = []
    for model, (weight, density) in enumerate(settings[:num_models]):
        share = Share(
            weight=value_at(weight, tensor, depth),
            density=value_at(density, tensor, depth),
            # By the model's number and the tensor's name: two models that share a mask would agree in what they drop.
            key=mask_key(spec.seed, model, tensor),
        )
        found.append(share)
    return found


def value_at(setting: Any, tensor: str, depth: float) -> float:
    """The value for a tensor at ``depth`` (0 the first layer, 1 the last).

    Args:
        setting: a number; or a list of numbers, spread evenly over the layers and interpolated linearly; or a list of
            ``{filter, value}``, of which the first counts whose filter is part of the tensor's name or missing.

    Raises:
        ConfigError: no filter fits the tensor.
    """
    if not isinstance(setting, list):
        return float(setting)
    if not isinstance(setting[0], dict):
        # Piecewise linear between values at equal distances, as mergekit reads a gradient.
        place = depth * (len(setting) - 1)
        left = min(int(place), len(setting) - 1)
        right = min(left + 1, len(setting) - 1)
        return float((1 - (place - left)) * setting[left] + (place - left) * setting[right])
    for item in setting:
        wanted = item.get("filter")
        if wanted in (None, "*") or wanted in tensor:
            return value_at(item["value"], tensor, depth)
    raise ConfigError(f"no filter of {setting} fits {tensor}; end the list with a value that has no filter")


def depths(tensors: Iterable[str]) -> dict[str, float]:
    """Where each tensor stands between the first layer (0) and the last (1); what is in no layer counts as 0."""
    layers = {name: int(match.group(1)) for name in tensors if (match := _LAYER.search(name))}
    last = max(layers.values(), default=0)
    return {name: (layers[name] / last if last else 1.0) if name in layers else 0.0 for name in tensors}
