"""The embedded engine: transformers models with a plain batched decoding loop.

Against ``model.generate`` it drops finished rows, grows the key-value cache in place, and draws each sample from a
random stream of its own, so that a sample does not depend on what was drawn before a restart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import DynamicCache, DynamicLayer

from micota.config import EngineConfig, SamplingConfig
from micota.engines.base import Output, Request

COMPACT_BELOW = 0.75  # drop finished rows once fewer than this share of the rows still run
CACHE_STEP = 64  # tokens by which the cache grows


class GrowingLayer(DynamicLayer):
    """A cache layer that writes into a buffer with room to spare; transformers' own copies the cache at every token."""

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
        buffer = old.new_empty(rows, heads, length + CACHE_STEP, width)
        buffer[:, :, :used] = old
        return buffer

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._buffers = (self.keys, self.values)


class HFEngine:
    """A transformers model on one device."""

    def __init__(self, config: EngineConfig, folder: str, revision: str | None) -> None:
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, revision=revision, dtype=config.dtype)
        self._take(model.to(device).eval(), tokenizer, config.batch_size)

    @classmethod
    def around(cls, model: Any, tokenizer: Any, batch_size: int) -> HFEngine:
        """An engine that asks a model which is there already, as in the middle of training. Its mode is left alone."""
        engine = cls.__new__(cls)
        engine._take(model, tokenizer, batch_size)
        return engine

    def _take(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.context_tokens = int(self.model.config.get_text_config().max_position_embeddings)
        eos = self.model.generation_config.eos_token_id
        self.eos_ids = {self.tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}
        self._forbidden = self._forbidden_ids()

    def _forbidden_ids(self) -> torch.Tensor:
        """Ids that must never be drawn: padding, and rows of a padded embedding that stand for no token."""
        width = self.model.get_output_embeddings().weight.shape[0]
        unused = torch.arange(width) >= len(self.tokenizer)
        if self.tokenizer.pad_token_id is not None and self.tokenizer.pad_token_id not in self.eos_ids:
            unused[self.tokenizer.pad_token_id] = True
        return unused.to(self.model.device)

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """See the protocol. In place: memory holds the model once, and tied weights stay tied."""
        places = self.model.state_dict()
        for name, values in weights:
            if name not in places or places[name].shape != values.shape:
                seen = tuple(places[name].shape) if name in places else "not there"
                raise ValueError(
                    f"{name} is {tuple(values.shape)} and in the model {seen}; accepted: the same names and shapes"
                )
            places[name].copy_(values)

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. Batches are formed from all requests, done or not, and those wholly done are skipped: the
        numbers of a row can depend on the shape of its batch, so a resumed run must form the same batches."""
        ordered = sorted(requests, key=lambda request: -len(request.prompt_ids))
        for start in range(0, len(ordered), self.batch_size):
            batch = ordered[start : start + self.batch_size]
            if not all(request.done for request in batch):
                yield from self._decode(batch, sampling)

    def close(self) -> None:
        """See the protocol."""
        del self.model

    @torch.inference_mode()
    def _decode(self, batch: list[Request], sampling: SamplingConfig) -> Iterator[Output]:
        began = time.perf_counter()
        device = self.model.device
        ids, mask = self._left_padded(batch)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        rows = torch.arange(len(batch), device=device)  # row of the running batch -> request
        uniforms = _uniforms(batch, sampling).to(device)
        written = torch.zeros(len(batch), sampling.max_tokens, dtype=torch.long, device=device)
        eos = torch.tensor(sorted(self.eos_ids), device=device)
        running = torch.ones(len(batch), dtype=torch.bool, device=device)
        for step in range(sampling.max_tokens):
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
            ).logits[:, -1]
            ids = self._choose(logits, sampling, uniforms[rows, step % uniforms.shape[1]])
            written[rows, step] = ids
            ended = running & torch.isin(ids, eos)
            yield from self._outputs(batch, rows[ended], written, step + 1, "stop", began)
            running = running & ~ended
            alive = int(running.sum())
            if alive == 0:
                return
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if alive < COMPACT_BELOW * len(rows):
                keep = running.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                rows, ids, mask, positions = rows[keep], ids[keep], mask[keep], positions[keep]
                running = running[keep]
            ids = ids[:, None]
        yield from self._outputs(batch, rows[running], written, sampling.max_tokens, "length", began)

    def _left_padded(self, batch: list[Request]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, both rows x longest prompt."""
        width = max(len(request.prompt_ids) for request in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, request in enumerate(batch):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, width - len(request.prompt_ids) :] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def _choose(self, logits: torch.Tensor, sampling: SamplingConfig, uniform: torch.Tensor) -> torch.Tensor:
        """Next token ids (rows) from logits (rows x vocabulary)."""
        logits = logits.float().masked_fill(self._forbidden, -torch.inf)
        if sampling.temperature == 0:
            return logits.argmax(dim=-1)
        weights, order = (logits / sampling.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        cumulative = weights.cumsum(dim=-1)
        kept = (cumulative - weights < sampling.top_p).sum(dim=-1, keepdim=True)  # the smallest set with mass >= top_p
        mass = cumulative.gather(1, kept - 1)
        chosen = torch.searchsorted(cumulative, uniform[:, None] * mass, right=True).minimum(kept - 1)
        return order.gather(1, chosen)[:, 0]

    def _outputs(
        self, batch: list[Request], rows: torch.Tensor, written: torch.Tensor, length: int, reason: str, began: float
    ) -> Iterator[Output]:
        for row in rows.tolist():
            if batch[row].done:
                continue
            ids = written[row, : length - 1 if reason == "stop" else length].tolist()
            yield Output(
                id=batch[row].id,
                text=self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
                finish_reason=reason,
                num_tokens=length,
                seconds=round(time.perf_counter() - began, 4),
            )


def _uniforms(batch: list[Request], sampling: SamplingConfig) -> torch.Tensor:
    """One uniform number per request and step, from the request's own seed: inverse-CDF sampling needs no more."""
    if sampling.temperature == 0:
        return torch.zeros(len(batch), 1)
    draws = [torch.rand(sampling.max_tokens, generator=torch.Generator().manual_seed(r.seed)) for r in batch]
    return torch.stack(draws)
