"""Weights by layer from activations, after Activation-Guided Consensus Merging (ACM, arXiv 2505.14009).

ACM gives a layer a lower weight if its activations before and after fine-tuning share more information, since such a
layer holds less of what fine-tuning added. Here the information is that of each unit of the residual stream under a
Gaussian model, ``-ln(1 - r^2) / 2`` for the correlation r of its values before and after SFT, as a mean over units; and
weights are scaled so that their mean over layers is the wanted one. So a merge differs from plain interpolation only in
how the weight is spread over layers. The estimator and the scale are ours: the paper's code was not at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from micota.merging.layers import ByLayer, by_layer
from micota.merging.targets import DIGITS

MOST_TOKENS = 4096  # whose activations are held in memory, of one model at a time
CLOSEST = 1 - 1e-9  # a squared correlation of equal activations, whose information would be infinite


@torch.inference_mode()
def activations_of(model: Any, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """The residual stream after each layer for all tokens of ``sequences``, tokens x units in float32 on the CPU. Of
    the last layer it is what follows the last norm, as transformers returns it."""
    rows: list[list[torch.Tensor]] = []
    for ids in sequences:
        states = model(input_ids=torch.tensor([ids], device=model.device), output_hidden_states=True).hidden_states
        rows.append([state[0].float().cpu() for state in states[1:]])
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]


def cut(sequences: Sequence[Sequence[int]], most: int = MOST_TOKENS) -> list[list[int]]:
    """The first sequences, the last of them cut, with at most ``most`` tokens."""
    kept: list[list[int]] = []
    for ids in sequences:
        left = most - sum(map(len, kept))
        if left <= 0:
            break
        kept.append(list(ids[:left]))
    return kept


def information(before: torch.Tensor, after: torch.Tensor) -> float:
    """The mutual information in nats between the values of a unit before and after SFT, if both are Gaussian, as a mean
    over units; tokens x units. A unit that does not vary counts as unchanged by SFT."""
    x, y = (values.double() - values.double().mean(dim=0) for values in (before, after))
    norms = x.square().sum(dim=0) * y.square().sum(dim=0)
    squared = torch.where(norms > 0, (x * y).sum(dim=0).square() / norms.clamp(min=1e-300), torch.tensor(1.0))
    # Gaussian mutual information: -1/2 ln(1 - r^2).
    return float((-0.5 * torch.log1p(-squared.clamp(max=CLOSEST))).mean())


def weights_by_layer(shared: Mapping[str, float], mean: float) -> ByLayer:
    """Weights of layers with the mean ``mean``, lower where ``shared``, the information of a layer, is higher.

    All other tensors have the weight ``mean``. No weight is above 1, beyond the model after SFT, if ``mean`` is not.
    """
    # As in ACM a logistic function maps information, from 0 up, to a coefficient that falls with it.
    raw = {layer: 1 - 1 / (1 + math.exp(-value)) for layer, value in shared.items()}
    scale = mean * len(raw) / sum(raw.values())
    return by_layer({layer: round(min(scale * value, max(1.0, mean)), DIGITS) for layer, value in raw.items()}, mean)
