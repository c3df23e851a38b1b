"""Data and a teacher -> the teacher's most likely tokens and their log-probabilities, at each learnt token."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from micota.console import progress_bar
from micota.forward.batches import batches
from micota.forward.top_k import most_likely
from micota.graph.teachers import TargetsSpec
from micota.pretrained import rope_border
from micota.runtime.forward import batch_tokens, open_model, open_tokenizer
from micota.runtime.inputs import model_location
from micota.runtime.work import Work
from micota.sft.packing import Tokens
from micota.sft.skeletons import shape_at
from micota.sft.targets import INDEX, SUM, TYPES, ends_of, file_of, files_of, has_rows, save, save_rows
from micota.sft.token_table import TokenTable, sum_of_tokens
from micota.stages.examples import cut, fitting, read_examples


def targets(work: Work[TargetsSpec]) -> None:
    """Write the files of rows, of which those that a killed run left are kept, and then their index. An example that
    training drops as too long has no rows.

    Raises:
        ConfigError: no example fits.
    """
    spec, folder = work.node.spec, work.build.path
    tokenizer = open_tokenizer(work, work.node.inputs["model"])
    _, uncut = read_examples(work.store, work.node.inputs["data"], tokenizer, spec, spec.max_tokens)
    tokens = cut(uncut, spec, spec.max_tokens)
    used = set(fitting(tokens, spec.max_tokens, spec.max_tokens))
    counts = [tokens[index].num_supervised if index in used else 0 for index in range(len(tokens))]
    ends = ends_of(counts)
    top_k = min(spec.top_k, len(tokenizer) - 1)  # all others are at least one token
    ranges = list(files_of(ends, spec.row_bytes(top_k)))
    made = [file_of(folder, number) for number in range(len(ranges))]
    done = {path for path in made if has_rows(path, work.node.key)}
    work.build.counts["resumed"] = len(done)
    if len(done) < len(made):
        writer = _Writer(work, tokens, counts, top_k, len(tokenizer))
        with progress_bar(work.console, folder) as bar:
            task = bar.add_task(work.node.name, total=len(made), completed=work.build.counts["resumed"], note="")
            for path, examples in zip(made, ranges, strict=True):
                if path not in done:
                    writer.write(path, examples)
                    bar.update(task, advance=1, note=f"{writer.tokens_per_s:.0f} tokens/s")
        work.build.metrics["tokens_per_s"] = writer.tokens_per_s
    starts = [int(ends[one.start - 1]) if one.start else 0 for one in ranges]
    index = {"ends": torch.from_numpy(ends), "starts": torch.tensor(starts, dtype=torch.long)}
    save(folder / INDEX, index, {SUM: sum_of_tokens(tokens)})
    _count(work, tokens, sorted(used), int(ends[-1]), top_k)


def _count(work: Work[TargetsSpec], tokens: TokenTable, used: list[int], rows: int, top_k: int) -> None:
    work.build.counts |= {"examples": len(used), "tokens": rows, "top_k": top_k}
    lengths = np.asarray(tokens.lengths)[used].tolist()
    shape = shape_at(model_location(work.store, work.node.inputs["model"]))
    work.build.metrics["flops_forward"] = shape.forward_flops(lengths, rows)


class _Writer:
    """Computes the rows of a file and writes it."""

    def __init__(
        self, work: Work[TargetsSpec], tokens: TokenTable, counts: list[int], top_k: int, vocabulary: int
    ) -> None:
        self._vocabulary, self._key = vocabulary, work.node.key
        self._spec, self._tokens, self._counts, self._top_k = work.node.spec, tokens, counts, top_k
        self._model: Any = open_model(work, work.node.inputs["model"])
        self._border = rope_border(self._model.config)
        self._most = batch_tokens(work.config.trainer)
        self._read, self._began = 0, time.perf_counter()

    @property
    def tokens_per_s(self) -> float:
        return self._read / (time.perf_counter() - self._began)

    def write(self, path: Path, examples: range) -> None:
        """Write the rows of consecutive examples. Batches are formed within a file, so that a run that goes on makes
        the same ones."""
        used = [index for index in examples if self._counts[index]]
        sequences: list[Tokens] = [self._tokens[index] for index in used]
        lengths = [len(one.ids) for one in sequences]
        firsts = np.concatenate([[0], ends_of([self._counts[index] for index in used])])
        log_p = torch.empty(int(firsts[-1]), self._top_k + 1, dtype=TYPES[self._spec.dtype])
        ids = torch.empty(int(firsts[-1]), self._top_k, dtype=torch.int32)
        for batch in batches(lengths, self._most, self._border):
            found = most_likely(
                self._model, [sequences[at] for at in batch], self._top_k, self._spec.temperature, self._vocabulary
            )
            for at, (values, tokens) in zip(batch, found, strict=True):
                log_p[firsts[at] : firsts[at + 1]], ids[firsts[at] : firsts[at + 1]] = values, tokens
            self._read += sum(lengths[at] for at in batch)
        save_rows(path, self._key, {"log_p": log_p, "ids": ids})
