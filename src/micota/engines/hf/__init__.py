"""The embedded engine: a decoding loop for transformers models.

It differs from ``model.generate`` in three points. The slot of a finished row goes to the next request, so that one
long answer does not stall the rest. The key-value cache grows in place. Each request has its random stream, so that a
sample does not depend on samples before a restart.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from micota.config import EngineConfig, SamplingConfig
from micota.engines.base import Output, Request
from micota.engines.hf.caches import GrowingLayer as GrowingLayer
from micota.engines.hf.caches import aligned, cache_argument, can_join, join_rows, new_cache, select_rows
from micota.pretrained import context_of, load_config, load_model, load_tokenizer

COMPACT_BELOW = 0.75  # drop finished rows once fewer than this share of the rows still run and no request waits
REFILL_AT = 8  # refill free slots once an eighth of the batch is free: a prompt costs more than a token
FAILED = -1  # the id of no token
ROUNDS = 8  # batches of requests per window; a killed run repeats at most one window


class Batch:
    """Rows that are decoded together, left-padded: ``rows`` are indices into the window, ``running`` marks unfinished
    rows, ``ids`` and ``positions`` (rows x 1) are the next input, ``mask`` is rows x tokens."""

    def __init__(
        self, rows: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache, running: torch.Tensor
    ) -> None:
        self.rows, self.ids, self.mask, self.cache, self.running = rows, ids, mask, cache, running
        self.positions = mask.sum(1, keepdim=True)

    def select(self, keep: torch.Tensor) -> None:
        """Drop all other rows."""
        select_rows(self.cache, keep)
        for name in ("rows", "ids", "mask", "positions", "running"):
            setattr(self, name, getattr(self, name)[keep])

    def join(self, newcomers: Batch) -> None:
        """Replace finished rows by newcomers, and drop cache entries that no row reads any more."""
        keep = self.running.nonzero()[:, 0]
        length = max(int(self.mask[keep].sum(1).max()), newcomers.mask.shape[1])
        join_rows(self.cache, newcomers.cache, keep, length)
        self.mask = torch.cat([aligned(self.mask[keep], length, -1), aligned(newcomers.mask, length, -1)])
        for name in ("rows", "ids", "positions", "running"):
            setattr(self, name, torch.cat([getattr(self, name)[keep], getattr(newcomers, name)]))


class HFEngine:
    """A transformers model on one device, loaded by the first use."""

    def __init__(self, config: EngineConfig, folder: str, revision: str | None, takes_weights: bool = True) -> None:
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size = config.rows
        self.tokenizer: Any = load_tokenizer(folder, revision)
        self.context_tokens = context_of(load_config(folder, revision)) or sys.maxsize  # Mamba has no limit
        self._source: dict[str, Any] = {"revision": revision, "dtype": config.dtype}
        self._folder, self._device = folder, device

    @classmethod
    def around(cls, model: Any, tokenizer: Any, batch_size: int) -> HFEngine:
        """An engine around a model in memory, for evaluation during training. The mode of the model does not change."""
        engine = cls.__new__(cls)
        engine.model, engine.tokenizer, engine.batch_size = model, tokenizer, batch_size
        engine.context_tokens = context_of(model.config) or sys.maxsize
        return engine

    @cached_property
    def model(self) -> Any:
        """The model itself."""
        model: Any = load_model(self._folder, **self._source)
        return model.to(self._device).eval()

    @cached_property
    def _cache_argument(self) -> str:
        return cache_argument(self.model)

    @cached_property
    def eos_ids(self) -> set[int]:
        """Ids that end an answer."""
        eos = self.model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}

    @cached_property
    def _forbidden(self) -> torch.Tensor:
        """Mask of ids that are never sampled: padding, and rows of a padded embedding that belong to no token. Some
        tokenizers have holes, and so tokens whose id is above their number, as the end token of Phi-4-mini."""
        width = self.model.get_output_embeddings().weight.shape[0]
        unused = torch.arange(width) >= len(self.tokenizer)
        known = {*self.tokenizer.get_vocab().values(), *self.eos_ids}
        unused[[index for index in known if index < width]] = False
        if self.tokenizer.pad_token_id is not None and self.tokenizer.pad_token_id not in self.eos_ids:
            unused[self.tokenizer.pad_token_id] = True
        return unused.to(self.model.device)

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """See the protocol. In place: memory holds the model once, and tied weights stay tied."""
        parameters = self.model.state_dict()
        for name, values in weights:
            if name not in parameters or parameters[name].shape != values.shape:
                seen = tuple(parameters[name].shape) if name in parameters else "missing"
                raise ValueError(
                    f"{name} is {tuple(values.shape)} and in the model {seen}; accepted: the same names and shapes"
                )
            parameters[name].copy_(values)

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. The numbers of a row can depend on the shape of its batch, so a resumed run must form the
        same batches: requests go in windows of ``ROUNDS`` batches, done or not. A window whose requests are all done
        is skipped. Any other window is decoded again, until the last output that is not done."""
        if all(request.done for request in requests):
            return
        ordered = sorted(requests, key=lambda request: -len(request.prompt_ids))
        size = self.batch_size * (ROUNDS if can_join(new_cache(self.model.config)) else 1)
        for start in range(0, len(ordered), size):
            window = ordered[start : start + size]
            if not all(request.done for request in window):
                yield from Window(self, window, sampling).decode()

    def close(self) -> None:
        """See the protocol."""
        self.__dict__.pop("model", None)

    def _forward(self, batch: Batch) -> torch.Tensor:
        """Logits (rows x vocabulary) after the ids of a batch; advances its mask and positions."""
        batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch.rows), 1)], dim=1)
        logits: torch.Tensor = self.model(
            input_ids=batch.ids,
            # Models of states alone have read the prompt, of which the mask is; Mamba would multiply each number of it.
            attention_mask=batch.mask if self._cache_argument == "past_key_values" else None,
            position_ids=batch.positions,
            logits_to_keep=1,
            **{self._cache_argument: batch.cache},
        ).logits[:, -1]
        batch.positions = batch.positions + 1
        return logits

    def _choose(self, logits: torch.Tensor, sampling: SamplingConfig, uniform: torch.Tensor) -> torch.Tensor:
        """Next token ids (rows) from logits (rows x vocabulary); ``FAILED`` where they are no numbers or infinite."""
        logits = logits.float().masked_fill(self._forbidden, -torch.inf)
        if sampling.temperature == 0:
            highest, ids = logits.max(dim=-1)
            return ids.where(highest.isfinite(), FAILED)
        weights, order = (logits / sampling.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        cumulative = weights.cumsum(dim=-1)
        # The smallest set with mass >= top_p; of NaN, none is below.
        kept = (cumulative - weights < sampling.top_p).sum(dim=-1, keepdim=True).clamp(min=1)
        mass = cumulative.gather(1, kept - 1)
        chosen = torch.searchsorted(cumulative, uniform[:, None] * mass, right=True).minimum(kept - 1)
        return order.gather(1, chosen)[:, 0].where(weights[:, 0].isfinite(), FAILED)  # NaN is sorted to the front


class Window:
    """Requests that share ``batch_size`` slots and enter them in order."""

    def __init__(self, engine: HFEngine, requests: Sequence[Request], sampling: SamplingConfig) -> None:
        self.engine, self.requests, self.sampling = engine, requests, sampling
        self.device = engine.model.device
        self.waiting = deque(range(len(requests)))
        self.num_wanted = sum(not request.done for request in requests)
        self.generated = torch.zeros(len(requests), sampling.max_tokens, dtype=torch.long, device=self.device)
        self.lengths = torch.zeros(len(requests), dtype=torch.long, device=self.device)
        self.uniforms = _uniforms(requests, sampling).to(self.device)
        self.eos = torch.tensor(sorted(engine.eos_ids), device=self.device)
        self.began = [0.0] * len(requests)

    @torch.inference_mode()
    def decode(self) -> Iterator[Output]:
        """Outputs as they finish, except of requests that are done."""
        batch_size = self.engine.batch_size
        batch = yield from self._admitted(batch_size)
        while self.num_wanted:
            alive = int(batch.running.sum())
            free = batch_size - alive
            if self.waiting and (alive == 0 or free >= max(1, batch_size // REFILL_AT)):
                newcomers = yield from self._admitted(free)
                if alive:
                    batch.join(newcomers)
                else:
                    batch = newcomers
                continue
            if not self.waiting and alive < COMPACT_BELOW * len(batch.rows):
                batch.select(batch.running.nonzero()[:, 0])
            yield from self._append_tokens(batch, self.engine._forward(batch))

    def _admitted(self, count: int) -> Generator[Output, None, Batch]:
        """Process the prompts of the next requests, and generate the first token of each."""
        indices = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        for index in indices:
            self.began[index] = time.perf_counter()
        ids, mask = self._left_padded([self.requests[index].prompt_ids for index in indices])
        cache = new_cache(self.engine.model.config)
        logits = self.engine.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=1,
            **{self.engine._cache_argument: cache},
        ).logits[:, -1]
        rows = torch.tensor(indices, device=self.device)
        batch = Batch(rows, ids[:, -1:], mask, cache, torch.ones(len(rows), dtype=torch.bool, device=self.device))
        yield from self._append_tokens(batch, logits)
        return batch

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, both rows x longest prompt."""
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        return ids.to(self.device), mask.to(self.device)

    def _append_tokens(self, batch: Batch, logits: torch.Tensor) -> Iterator[Output]:
        """Choose and store the next token of every running row; yields the outputs of rows that it ends."""
        rows = batch.rows
        steps = self.lengths[rows].clamp(max=self.sampling.max_tokens - 1)
        ids = self.engine._choose(logits, self.sampling, self.uniforms[rows, steps % self.uniforms.shape[1]])
        failed = batch.running & (ids == FAILED)
        self.generated[rows, steps] = torch.where(batch.running, ids, self.generated[rows, steps])
        batch.running = batch.running & ~failed
        self.lengths[rows] += batch.running
        batch.ids = ids.clamp(min=0)[:, None]
        stopped = batch.running & torch.isin(ids, self.eos)
        full = batch.running & ~stopped & (self.lengths[rows] == self.sampling.max_tokens)
        batch.running = batch.running & ~stopped & ~full
        for reason, which in (("stop", stopped), ("length", full), ("error", failed)):
            yield from self._outputs(rows[which].tolist(), reason)

    def _outputs(self, indices: Sequence[int], reason: str) -> Iterator[Output]:
        for index in indices:
            if self.requests[index].done:
                continue
            self.num_wanted -= 1
            length = int(self.lengths[index])
            ids = self.generated[index, : length - 1 if reason == "stop" else length].tolist()
            yield Output(
                id=self.requests[index].id,
                text=self.engine.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
                finish_reason=reason,
                num_tokens=length,
                token_ids=ids,
                seconds=round(time.perf_counter() - self.began[index], 4),
                error=f"no number after token {length}: the model's logits are NaN or infinite"
                if reason == "error"
                else None,
            )


def _uniforms(requests: Sequence[Request], sampling: SamplingConfig) -> torch.Tensor:
    """One uniform number per request and step, from the seed of the request, for inverse-CDF sampling."""
    if sampling.temperature == 0:
        return torch.zeros(len(requests), 1)
    numbers = [torch.rand(sampling.max_tokens, generator=torch.Generator().manual_seed(r.seed)) for r in requests]
    return torch.stack(numbers)
