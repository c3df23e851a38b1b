"""The tokens of examples as flat arrays, which are made once and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from micota.artifacts.jsonl import sync_folder
from micota.artifacts.provenance import versions
from micota.artifacts.quick_sums import sum_of_parts
from micota.data.round_trip import check_round_trip
from micota.errors import ConfigError
from micota.records import Example
from micota.sft.packing import PastEndError, Tokens, tokenise

LAYOUT = "gaps, ends of turns, sum with name, headers"  # of cached tokens; another name where these change
CHECKED = 32  # examples whose texts the tokenizer must give back: the first, and as many over all of them
MOST_PAST_END = 0.01  # the share of rows that may have an end within them: more are a mistake in how the data was made
SUM = "xxh3_128"  # in the header of cached tokens
logger = logging.getLogger(__name__)


class TokenTable(Sequence[Tokens]):
    """Tokenised examples as flat arrays: ``ids`` (int32, concatenated), ``ends``, ``num_prompt`` and ``gaps``
    (rows of example, start, end)."""

    def __init__(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        self.arrays = arrays

    @classmethod
    def of(cls, examples: Iterable[Tokens]) -> TokenTable:
        ids: list[np.ndarray[Any, Any]] = []  # of each example an array: a list of ints is nine times as large
        num_prompt: list[int] = []
        gaps: list[tuple[int, int, int]] = []
        for index, tokens in enumerate(examples):
            ids.append(np.asarray(tokens.ids, dtype=np.int32))
            num_prompt.append(tokens.num_prompt)
            gaps += [(index, *gap) for gap in tokens.gaps]
        return cls(
            {
                "ids": np.concatenate(ids) if ids else np.zeros(0, np.int32),
                "ends": np.cumsum([len(row) for row in ids], dtype=np.int64),
                "num_prompt": np.asarray(num_prompt, dtype=np.int32),
                "gaps": np.asarray(gaps, dtype=np.int64).reshape(-1, 3),
            }
        )

    def with_rows_of(self, other: TokenTable) -> TokenTable:
        """The examples of this table, and then those of the other."""
        arrays = {name: np.concatenate([values, other.arrays[name]]) for name, values in self.arrays.items()}
        arrays["ends"][len(self) :] += len(self.arrays["ids"])
        arrays["gaps"][len(self.arrays["gaps"]) :, 0] += len(self)
        return TokenTable(arrays)

    @property
    def lengths(self) -> list[int]:
        lengths: list[int] = np.diff(self.arrays["ends"], prepend=0).tolist()
        return lengths

    def with_token(self, token: int) -> list[int]:
        """The examples that have a token."""
        places = np.flatnonzero(self.arrays["ids"] == token)
        found: list[int] = np.unique(np.searchsorted(self.arrays["ends"], places, side="right")).tolist()
        return found

    def cut(self, max_tokens: int) -> TokenTable:
        """The examples cut to ``max_tokens``. One whose prompt alone is that long stays whole."""
        ids, ends, num_prompt = (self.arrays[name] for name in ("ids", "ends", "num_prompt"))
        lengths = np.diff(ends, prepend=0)
        kept = np.where(num_prompt < max_tokens, np.minimum(lengths, max_tokens), lengths)
        positions = np.arange(len(ids)) - np.repeat(ends - lengths, lengths)
        chosen = ids[positions < np.repeat(kept, lengths)]
        gaps = self.arrays["gaps"].copy()
        gaps[:, 2] = np.minimum(gaps[:, 2], kept[gaps[:, 0]])
        gaps = gaps[gaps[:, 1] < gaps[:, 2]]
        arrays = {"ids": chosen, "ends": np.cumsum(kept, dtype=np.int64), "num_prompt": num_prompt, "gaps": gaps}
        return TokenTable(arrays)

    def __len__(self) -> int:
        return len(self.arrays["ends"])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = int(self.arrays["ends"][index - 1]) if index else 0
        ids = self.arrays["ids"][start : int(self.arrays["ends"][index])].tolist()
        gaps = self.arrays["gaps"]
        first, last = np.searchsorted(gaps[:, 0], [index, index + 1])
        return Tokens(
            ids=ids,
            num_prompt=int(self.arrays["num_prompt"][index]),
            gaps=tuple((start, end) for _, start, end in gaps[first:last].tolist()),
        )


def tokenise_once(
    tokenizer: Any,
    examples: Sequence[Example],
    content: str,
    cache: Path,
    accept: Callable[[TokenTable], object] = lambda table: None,
) -> TokenTable:
    """Tokenise, or read the tokens from the cache. A few completions that go on after their end have no tokens.

    Args:
        content: identifies the examples; the name of the file in ``cache`` is a hash of it and the tokenizer.
        accept: raises for tokens that are of no use; they are not written.

    Raises:
        ConfigError: the chat template cannot render the messages of an example, or more than ``MOST_PAST_END`` of the
            completions go on after their end.
    """
    parts = [content, tokenizer_content(tokenizer), versions().get("tokenizers", ""), LAYOUT]
    path = cache / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]}.safetensors"
    if (cached := _cached(path)) is not None:
        return cached
    table = _table_of(tokenizer, examples)
    accept(table)
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed when complete; concurrent runs write the same content, and the last replaces the others.
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.touch()
    mode = draft.stat().st_mode  # of the umask; safetensors replaces the file by one for its owner alone
    save_file(table.arrays, draft, {SUM: _sum(path.stem, table.arrays)})
    draft.chmod(mode)
    with open(draft, "rb") as handle:
        os.fsync(handle.fileno())
    draft.replace(path)
    sync_folder(cache)
    return table


def _table_of(tokenizer: Any, examples: Sequence[Example]) -> TokenTable:
    errors: list[PastEndError] = []

    def tokens_of(example: Example) -> Tokens:
        try:
            return tokenise(tokenizer, example)
        except PastEndError as error:
            errors.append(error)
            return Tokens(ids=[], num_prompt=0)

    table = TokenTable.of(map(tokens_of, examples))
    if len(errors) > MOST_PAST_END * len(examples):
        first = errors[0]
        raise ConfigError(
            f"{len(errors)} of {len(examples)} completions go on after the end of their turn, as that of problem "
            f"{first.problem_id!r} ({first.mark}), at which generation stops; accepted: one answer each, without "
            f"tokens of the chat template; up to {MOST_PAST_END:.0%} of the rows are dropped for it"
        )
    return table


def check_texts(tokenizer: Any, examples: Sequence[Example], tokens: TokenTable, chosen: Sequence[int]) -> None:
    """Refuse a tokenizer that does not give back texts of some examples, and of those with its token for unknown
    words."""
    checked = {*chosen[:CHECKED], *chosen[:: -(-len(chosen) // CHECKED)]}
    if (unknown := getattr(tokenizer, "unk_token_id", None)) is not None:
        checked |= set([*set(chosen) & set(tokens.with_token(unknown))][:CHECKED])
    check_round_trip(tokenizer, _texts(examples[index] for index in sorted(checked)))


def _texts(examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        yield from (turn["content"] for turn in example.messages)
        yield example.completion


def _cached(path: Path) -> TokenTable | None:
    """The tokens in a file of the cache; None if it is missing or damaged, so that it is made again."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            stated = (file.metadata() or {}).get(SUM)
        if stated == _sum(path.stem, arrays):
            return TokenTable(arrays)
        problem = "its sum is not that of its name and content"
    except (SafetensorError, OSError) as error:
        problem = str(error)
    logger.warning("%s is damaged (%s): tokenised again", path, problem)
    return None


def _sum(file: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The sum of the name of a file and its named arrays, of their types and shapes: the tokens of other data, whole as
    they are, do not fit it."""
    parts = (
        (f"{name} {values.dtype} {values.shape} ".encode(), np.ascontiguousarray(values).data)
        for name, values in sorted(arrays.items())
    )
    return sum_of_parts([file.encode(), *(part for pair in parts for part in pair)])


def sum_of_tokens(table: TokenTable) -> str:
    """The sum of all tokens and of what of them is learnt."""
    return _sum("", table.arrays)


def tokenizer_content(tokenizer: Any) -> str:
    """All settings of a tokenizer on which token ids depend."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return json.dumps([vocabulary, tokenizer.chat_template, tokenizer.eos_token_id])
