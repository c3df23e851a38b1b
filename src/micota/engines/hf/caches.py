"""Caches of the embedded engine, of which rows can be dropped and to which rows can be added."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from micota.errors import ConfigError

OWN_STATES = ("recurrent_states", "conv1d_state")  # attributes of modules, of RecurrentGemma
CACHE_STEP = 64  # the fewest tokens by which the cache grows


class GrowingLayer(DynamicLayer):
    """A cache layer that writes into a buffer with spare capacity; the plain one copies the cache at every token."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self.keys = key_states[:, :, :0]
        self.values = value_states[:, :, :0]
        self._buffers = (self.keys, self.values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._buffers = (self._grown(self.keys, end), self._grown(self.values, end))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    @staticmethod
    def _grown(old: torch.Tensor, length: int) -> torch.Tensor:
        rows, heads, used, width = old.shape
        # By half: growth in equal steps leaves many freed blocks, none of which fits the next cache on a GPU.
        buffer = old.new_empty(rows, heads, length + max(CACHE_STEP, length // 2), width)
        buffer[:, :, :used] = old
        return buffer

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffers = (self.keys, self.values)

    def join(self, newcomers: GrowingLayer, keep: torch.Tensor, length: int) -> None:
        """Keep some rows and the last ``length`` tokens of their cache, and add other rows below."""
        self.keys = torch.cat([aligned(self.keys[keep], length, -2), aligned(newcomers.keys, length, -2)])
        self.values = torch.cat([aligned(self.values[keep], length, -2), aligned(newcomers.values, length, -2)])
        self._buffers = (self.keys, self.values)


def aligned(tensor: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """The last ``length`` entries along ``dim`` (counted from the end), padded with zeros in front."""
    short = length - tensor.shape[dim]
    if short <= 0:
        return tensor.narrow(dim, -short, length)
    return pad(tensor, [0, 0] * (-dim - 1) + [short, 0])


def new_cache(config: Any) -> DynamicCache:
    """A cache for a model with this config, whose layers of full attention grow in place."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def cache_argument(model: Any) -> str:
    """The argument by which a model takes a cache of transformers.

    Raises:
        ConfigError: it keeps what it has read elsewhere, as RWKV and RecurrentGemma, so that rows of a batch cannot
            leave it and others take their place.
    """
    names = inspect.signature(model.forward).parameters
    known = next((name for name in ("past_key_values", "cache_params") if name in names), None)
    keeps_states = any(name in vars(module) for module in model.modules() for name in OWN_STATES)
    if known is None or keeps_states or not model._supports_default_dynamic_cache():
        raise ConfigError(
            f"engine=hf cannot batch a model of type {model.config.model_type}, which keeps its state in no cache of "
            "transformers; accepted: engine=vllm or server, where they know it"
        )
    return known


def can_join(cache: DynamicCache) -> bool:
    """Whether rows can be added: layers of full attention, and states of a fixed size (linear attention, short
    convolutions), which need no alignment. Sliding windows hold another part of each row."""
    return all(type(layer) in (GrowingLayer, LinearAttentionLayer) for layer in cache.layers)


def select_rows(cache: DynamicCache, keep: torch.Tensor) -> None:
    """Drop all other rows. Layers with states have no method for it but that of beam search, which takes any rows."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            layer.reorder_cache(keep)
        else:
            layer.batch_select_indices(keep)


def join_rows(cache: DynamicCache, newcomers: DynamicCache, keep: torch.Tensor, length: int) -> None:
    """Keep some rows and the last ``length`` tokens of their cache, and add other rows below."""
    for layer, other in zip(cache.layers, newcomers.layers, strict=True):
        if isinstance(layer, GrowingLayer):
            layer.join(other, keep, length)
            continue
        for states, added in (
            (layer.conv_states, other.conv_states),
            (layer.recurrent_states, other.recurrent_states),
        ):
            for index, rows in states.items():
                if rows is not None:
                    states[index] = torch.cat([rows[keep], added[index]])
