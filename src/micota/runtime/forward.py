"""Forward passes of a stage over stored sequences: rows are appended as they finish, so that a restart goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from micota.artifacts.appending import JsonlAppender
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.config import TrainerConfig
from micota.console import progress_bar
from micota.forward.batches import batches
from micota.graph.node import AnyNode
from micota.pretrained import load_model
from micota.runtime.inputs import check_device, close_engine, model_location, tokenizer_for
from micota.runtime.work import Work
from micota.sft.packing import Tokens
from micota.sft.skeletons import computing_dtype

CPU_TOKENS = 2048  # at most in a batch: intermediate results of larger ones exceed the caches


class Indexed(Protocol):
    """A row of one sequence."""

    @property
    def index(self) -> int:
        """The position of the sequence in the input."""


Row = TypeVar("Row", bound=Indexed)


def open_tokenizer(work: Work[Any], node: AnyNode) -> Any:
    """The tokenizer of a model."""
    return tokenizer_for(work.store, node)


def open_model(work: Work[Any], node: AnyNode) -> Any:
    """A model for forward passes, on the device of the trainer and in the precision of the node.

    Raises:
        ConfigError: this machine lacks the device.
    """
    check_device(work.config.trainer.accelerator, "trainer")
    close_engine()  # frees the memory of the generator
    folder, revision = model_location(work.store, node)
    model: Any = load_model(folder, revision, dtype=computing_dtype(work.node.spec.precision))
    return model.to("cuda" if work.config.trainer.accelerator == "gpu" else "cpu").eval()


def batch_tokens(trainer: TrainerConfig) -> int:
    """The most tokens of a batch: those of a micro-batch of training, and fewer on a CPU."""
    most = trainer.pack_length * trainer.micro_batch_rows
    return most if trainer.accelerator == "gpu" else min(most, CPU_TOKENS)


def read_sequences(
    work: Work[Any],
    file: str,
    row_type: Callable[..., Row],
    sequences: Sequence[Tokens],
    rows_of: Callable[[list[int]], list[Row]],
    border: int | None = None,
) -> list[Row]:
    """The rows of all sequences, in their order. They are also written to ``file`` of the artifact.

    Rows that a killed run left are kept. A batch holds at most as many tokens as a micro-batch of training. Batches are
    formed from all sequences, done or not, because the numbers of a row can depend on the shape of its batch: a resumed
    run gives the same bits as an uninterrupted one.

    Args:
        rows_of: returns the rows of one batch for the indices of its sequences.
        border: of :func:`micota.pretrained.rope_border`, for the model of the forward passes.
    """
    path = work.build.path / file
    appender = JsonlAppender(path)
    rows = {row.index: row for row in read_jsonl(path, row_type)}
    work.build.counts["resumed"] = len(rows)
    lengths = [len(tokens.ids) for tokens in sequences]
    max_tokens = batch_tokens(work.config.trainer)
    began, tokens = time.perf_counter(), 0
    with progress_bar(work.console, work.build.path) as bar:
        task = bar.add_task(work.node.name, total=len(sequences), completed=len(rows), note="")
        for batch in batches(lengths, max_tokens, border):
            missing = {index for index in batch if index not in rows}
            if not missing:
                continue
            new = [row for row in rows_of(batch) if row.index in missing]
            appender.append(new)
            rows |= {row.index: row for row in new}
            tokens += sum(lengths[index] for index in batch)
            speed = tokens / (time.perf_counter() - began)
            bar.update(task, advance=len(new), note=f"{speed:.0f} tokens/s")
    appender.close()
    assert rows.keys() == set(range(len(sequences))), f"{path} has rows of other sequences"
    if tokens:
        work.build.metrics["tokens_per_s"] = tokens / (time.perf_counter() - began)
    ordered = [rows[index] for index in range(len(sequences))]
    write_jsonl(path, ordered)
    return ordered
