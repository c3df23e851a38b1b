"""Weights by layer, in the form that ``merge.weight`` takes, and the blocks of layers that share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from micota.merging.plan import depths, layer_of

ByLayer = list[dict[str, Any]]


def layers(names: Sequence[str]) -> dict[str, float]:
    """The depth from 0 to 1 of each layer, by the beginning of the names of its tensors, as ``model.layers.3.``."""
    found = {name: layer for name in names if (layer := layer_of(name)) is not None}
    depth = depths(names)
    return {layer: depth[name] for name, layer in found.items()}


def num_blocks(names: Sequence[str], most: int) -> int:
    """The number of weights of a search: of blocks of neighbouring layers, and one for all that is outside layers."""
    return min(most, len(set(layers(names).values()))) + 1


def of_blocks(names: Sequence[str], weights: Sequence[float]) -> ByLayer:
    """The weight of each layer from those of blocks, in order of depth; the last weight is that of all other tensors
    (embeddings, the last norm, the head)."""
    count = len(weights) - 1
    # Layers are spread evenly: layer i of n, at depth i / (n - 1), is in block floor(i * count / n).
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(layers(names).values())))}
    blocks = {layer: ranks[depth] * count // len(ranks) for layer, depth in layers(names).items()}
    return by_layer({layer: weights[block] for layer, block in blocks.items()}, weights[-1])


def by_layer(weights: Mapping[str, float], rest: float) -> ByLayer:
    """Weights of layers, and of all ``rest``, as a setting of ``merge.weight``."""
    return [*({"filter": layer, "value": weight} for layer, weight in weights.items()), {"value": rest}]


def mean_weight(setting: Any) -> float:
    """The mean over layers of a setting of ``merge.weight``; a number is its own mean."""
    if not isinstance(setting, list):
        return float(setting)
    values = [float(item["value"]) for item in setting if item.get("filter")] or [float(setting[-1]["value"])]
    return round(sum(values) / len(values), 6)


def as_override(setting: Any) -> str:
    """A setting of ``merge.weight`` as a value of the command line."""
    if not isinstance(setting, list):
        return f"{setting:g}"
    items = [
        f"{{filter:{item['filter']},value:{item['value']:g}}}" if item.get("filter") else f"{{value:{item['value']:g}}}"
        for item in setting
    ]
    return f"[{','.join(items)}]"
