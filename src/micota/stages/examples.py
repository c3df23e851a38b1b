"""The examples of a data artifact, tokenised, cut and chosen by the limits of a training."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.store import Store
from micota.errors import ConfigError
from micota.graph.node import AnyNode
from micota.records import DATA, Example
from micota.runtime.inputs import input_path
from micota.sft.packing import fits
from micota.sft.token_table import TokenTable, tokenise_once

logger = logging.getLogger(__name__)


class Limits(Protocol):
    """The settings of a training that limit its examples, as of ``SftConfig``."""

    @property
    def max_tokens(self) -> int: ...
    @property
    def overlong(self) -> str: ...


def read_examples(
    store: Store, node: AnyNode, tokenizer: Any, limits: Limits, longest: int
) -> tuple[list[Example], TokenTable]:
    """The examples of a data artifact, and their tokens before any is cut.

    Args:
        longest: tokens of an example at most: ``limits.max_tokens``, or the model's context.

    Raises:
        ConfigError: no example fits.
    """
    path = input_path(store, node) / DATA
    manifest = store.manifest(node)
    assert manifest is not None
    examples = read_jsonl(path, Example)

    def accept(table: TokenTable) -> object:
        return fitting(cut(table, limits, longest), longest, limits.max_tokens)

    cache = store.root / "cache" / "tokens"
    table = tokenise_once(tokenizer, examples, manifest.files[DATA]["sha256"], cache, accept)
    if num_past_end := table.lengths.count(0):
        logger.warning("%d of %d completions go on after the end of their turn: dropped", num_past_end, len(examples))
    return examples, table


def cut(table: TokenTable, limits: Limits, longest: int) -> TokenTable:
    """The examples cut to ``longest`` tokens, where the settings have it so."""
    return table.cut(longest) if limits.overlong == "cut" else table


def fitting(tokens: TokenTable, longest: int, max_tokens: int) -> list[int]:
    """The examples of at most ``longest`` tokens. One that is cut has more where its prompt alone is too long.

    Raises:
        ConfigError: there is none.
    """
    if not (chosen := fits(tokens.lengths, longest)):
        shortest = f"the shortest has {min(length for length in tokens.lengths if length)} tokens"
        if longest < max_tokens:
            raise ConfigError(
                f"no example fits the {longest} tokens of the model's context: {shortest}; accepted: shorter examples"
            )
        raise ConfigError(f"no example fits sft.max_tokens={max_tokens}: {shortest}; accepted: at least that")
    return chosen
