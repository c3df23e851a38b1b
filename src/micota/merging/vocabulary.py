"""Models of one vocabulary whose added tokens or padding differ.

DeepSeek-R1-Distill-Qwen has other added tokens at the ids of Qwen2.5's: 151644 is ``<|User|>`` in the one and
``<|im_start|>`` in the other. The mean of two rows of different tokens is a row of neither. Such rows, and rows that
only one model has, are therefore taken from the fine-tuned model, whose tokenizer the merge keeps: in the other models
they read as the fine-tuned model's, so that their task vector is 0. (slerp scales its two models' sum, and so these
rows by the same factor, which is near 1 for models that are near each other.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from micota.checkpoint import Checkpoint
from micota.errors import ConfigError

# Tensors with a row for each token, in the names of Llama, GPT-2, Falcon, GPT-NeoX and Mamba.
EMBEDDINGS = (
    *("embed_tokens.weight", "lm_head.weight", "lm_head.bias", "wte.weight", "word_embeddings.weight"),
    *("embed_in.weight", "embed_out.weight", "backbone.embeddings.weight"),
)


def has_rows_of_tokens(tensor: str) -> bool:
    """Whether a tensor has a row for each token."""
    return f".{tensor}".endswith(tuple(f".{name}" for name in EMBEDDINGS))


def other_tokens(base: Any, tuned: Any, where: str) -> list[int]:
    """The ids that are different tokens in two tokenizers.

    Args:
        where: the beginning of an error, which names both models.

    Raises:
        ConfigError: one of them is no added token in either, so that the models have different vocabularies.
    """
    first, second = _by_id(base), _by_id(tuned)
    added = [set(tokenizer.get_added_vocab()) for tokenizer in (base, tuned)]
    differing = sorted(token for token in first.keys() | second.keys() if first.get(token) != second.get(token))
    for token in differing:
        texts = first.get(token), second.get(token)
        if any(text is not None and text not in known for text, known in zip(texts, added, strict=True)):
            raise ConfigError(
                f"{where}: in their tokenizers id {token} is {texts[0] or 'missing'!r} and {texts[1] or 'missing'!r}; "
                "accepted: models of one tokenizer, whose added tokens may differ"
            )
    return differing


def _by_id(tokenizer: Any) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}


class AlignedCheckpoint(Checkpoint):
    """A checkpoint whose rows of some tokens, and rows that it lacks, are those of another.

    Args:
        checkpoint: the model.
        tuned: the model whose rows are taken, and whose number of rows counts.
        tokens: the ids of the rows to take.
    """

    def __init__(self, checkpoint: Checkpoint, tuned: Checkpoint, tokens: Sequence[int]) -> None:
        shared = [name for name in checkpoint.entries if has_rows_of_tokens(name) and name in tuned.entries]
        resized = {name: replace(checkpoint.entries[name], shape=tuned.entries[name].shape) for name in shared}
        super().__init__(checkpoint.folder, {**checkpoint.entries, **resized})
        self._checkpoint, self._tuned, self._tokens = checkpoint, tuned, tokens
        self._aligned: Mapping[str, Any] = resized
        self.is_changed = True

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """As of a checkpoint; the rows of tokens are in float32, in which both models' values are exact."""
        if name not in self._aligned:
            return self._checkpoint.read(name, start, stop)
        values = torch.empty(stop - start, dtype=torch.float32)
        end = min(stop, max(start, self._checkpoint.entries[name].num_elements))
        values[: end - start] = self._checkpoint.read(name, start, end)
        values[end - start :] = self._tuned.read(name, end, stop)
        columns = math.prod(self.entries[name].shape[1:])
        for token in self._tokens:
            first, last = max(start, token * columns), min(end, (token + 1) * columns)
            if first < last:
                values[first - start : last - start] = self._tuned.read(name, first, last)
        return values
