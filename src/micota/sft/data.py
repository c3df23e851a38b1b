"""The packed batches of every optimiser step. A step is ``batch_size`` examples for any packing and number of ranks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from micota.config import SftConfig, TrainerConfig
from micota.config.curriculum import RANDOM
from micota.errors import ConfigError
from micota.model_files import Location
from micota.records import Example
from micota.sft.balancing import balance
from micota.sft.curriculum import ordered
from micota.sft.packing import IGNORED, Batch, Tokens, lay_out, pack
from micota.sft.splits import problems_of, schedule, split
from micota.sft.targets import StoredTargets, numbered
from micota.sft.token_table import TokenTable


def check(tokens: Sequence[Tokens], examples: Sequence[Example], vocabulary: int) -> None:
    """Refuse examples that cannot be trained on.

    Args:
        vocabulary: rows of the model's embedding.

    Raises:
        ConfigError: a completion is empty, or an id is outside of the embedding.
    """
    for example, row in zip(examples, tokens, strict=True):
        if not example.completion.strip() or row.num_supervised <= 1:  # an end of its own alone
            raise ConfigError(
                f"the example of problem {example.problem_id!r} has an empty completion: nothing in it is supervised; "
                "accepted: a text"
            )
        if max(row.ids) >= vocabulary:
            raise ConfigError(
                f"the tokenizer produces id {max(row.ids)} (problem {example.problem_id!r}), but the model embeds ids "
                f"below {vocabulary}; use the tokenizer that belongs to the model, or a model with a larger embedding"
            )


@dataclass(frozen=True)
class Inputs:
    """The inputs of a training run.

    ``location`` is the folder or hub id of the model, and its revision. ``chosen`` has the indices of the examples that
    are not too long. ``num_cut`` examples were cut; ``num_beyond_context`` were dropped since the model has positions
    for fewer tokens, although ``max_tokens`` admits them. ``border`` is that of :func:`micota.pretrained.rope_border`.
    The last ``num_validation`` examples are for validation alone, and ``validation`` has the indices of those that are
    not too long; None: a share of ``chosen`` is. ``teachers`` are the models whose probabilities are learnt, one
    after the other, or their stored probabilities; with ``answer_tokens`` on answers of at most so many tokens that the
    student samples.
    """

    tokenizer: Any
    location: Location
    examples: list[Example]
    tokens: TokenTable
    chosen: list[int]
    num_cut: int = 0
    num_beyond_context: int = 0
    border: int | None = None
    num_validation: int = 0
    validation: list[int] | None = None
    teachers: Sequence[Location | StoredTargets] = ()
    answer_tokens: int | None = None

    @property
    def teacher(self) -> Location | None:
        """The first teacher that computes beside the student; all have its sizes."""
        first = self.teachers[0] if self.teachers else None
        return None if isinstance(first, StoredTargets) else first

    @property
    def problems(self) -> list[str]:
        """The problem of each example."""
        return [example.problem_id for example in self.examples]

    @property
    def num_past_end(self) -> int:
        """The number of examples to train on that are dropped since they go on after the end of their turn."""
        return self.tokens.lengths[: len(self.examples) - self.num_validation].count(0)

    @cached_property
    def divided_by(self) -> list[int]:
        """The problem of each example by id and by question, for the division into training and validation."""
        return problems_of(self.examples)

    @property
    def longest(self) -> int:
        longest = max(self.tokens.lengths[index] for index in [*self.chosen, *(self.validation or [])])
        if self.answer_tokens is None:
            return longest
        return max(longest, self.answer_tokens + self.longest_prompt)

    @cached_property
    def longest_prompt(self) -> int:
        """The most tokens of a prompt to train on."""
        return max(len(self.tokens[index].prompt) for index in self.chosen)


@dataclass(frozen=True)
class Step:
    """One optimiser step on one rank.

    ``micro_batches`` are those of this rank. Their number is the same on every rank, because sharded models need
    collective operations; missing ones are filled with one token without loss. ``num_supervised`` and ``lengths``
    cover all ranks. ``seed`` is for dropout: it differs by step and rank, and is the same after a resume.
    """

    examples: list[int]
    micro_batches: list[Batch]
    num_supervised: int
    lengths: list[int]
    seed: int


class Steps(Dataset[Step]):
    """The optimiser steps of one rank out of ``world_size``."""

    def __init__(
        self,
        sequences: Sequence[Tokens],
        steps: list[list[int]],
        trainer: TrainerConfig,
        seed: int,
        ranks: tuple[int, int] = (0, 1),
        border: int | None = None,
        targets: Sequence[int] | None = None,
    ) -> None:
        """
        Args:
            ranks: the index of this rank and the number of ranks.
            border: of ``pretrained.rope_border``; no micro-batch has lengths on both sides of it.
            targets: for each sequence, the row of the stored log-probabilities of its first label.
        """
        self.sequences = sequences
        self.steps = steps
        self.trainer = trainer
        self.seed = seed
        self.rank, self.world_size = ranks
        self.border = border
        self.targets = targets

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Step:
        return self.step_of(index, [self.sequences[i] for i in self.steps[index]])

    def step_of(self, index: int, chosen: Sequence[Tokens]) -> Step:
        """The step with these sequences."""
        lengths = [len(tokens.ids) for tokens in chosen]
        rounds = self._rounds(lengths)
        # A rank for which a round has no sequence takes part with an empty micro-batch.
        mine = [self._batch(index, chosen, ranks[self.rank]) if ranks[self.rank] else empty_batch() for ranks in rounds]
        # The number of labels divides the loss of the step.
        supervised = sum(tokens.num_supervised for tokens in chosen)
        [seed] = np.random.SeedSequence([self.seed, index, self.rank]).generate_state(1).tolist()
        return Step(self.steps[index], mine, supervised, lengths, seed)

    def _batch(self, index: int, chosen: Sequence[Tokens], rows: list[list[int]]) -> Batch:
        batch = lay_out(chosen, rows)
        if self.targets is None:
            return batch
        return numbered(batch, rows, chosen, [self.targets[example] for example in self.steps[index]])

    def _rounds(self, lengths: list[int]) -> list[list[list[list[int]]]]:
        """The rows of every round and rank, as indices of sequences."""
        sides: dict[bool, list[int]] = {}
        for index, length in enumerate(lengths):
            sides.setdefault(self.border is not None and length > self.border, []).append(index)
        return [
            [[[side[place] for place in row] for row in rows] for rows in ranks]
            for _, side in sorted(sides.items(), reverse=True)  # the longest first, as in balance
            for ranks in balance([lengths[index] for index in side], self.trainer.pack_length,
                                 self.trainer.micro_batch_rows, self.world_size)
        ]  # fmt: skip


def empty_batch() -> Batch:
    """A batch of one token without loss."""
    # Not empty: collective operations of sharded layers need a forward and a backward pass.
    zero = torch.zeros(1, 1, dtype=torch.long)
    return {"input_ids": zero, "position_ids": zero, "labels": torch.full_like(zero, IGNORED)}


class StepSampler(Sampler[int]):
    """The remaining steps. The length is that of the whole run, since Lightning counts finished steps in."""

    def __init__(self, start: int, total: int) -> None:
        self.start = start
        self.total = total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.total))

    def __len__(self) -> int:
        return self.total


class SftDataModule(LightningDataModule):
    """All optimiser steps of a run as one Lightning epoch, from the step at which training (re)starts.

    Raises:
        ConfigError: no example remains for training or for validation.
    """

    def __init__(
        self,
        sequences: Sequence[Tokens],
        sft: SftConfig,
        trainer: TrainerConfig,
        seed: int,
        chosen: Sequence[int] | None = None,
        problems: Sequence[Hashable] | None = None,
        border: int | None = None,
        validation: Sequence[int] | None = None,
        most_steps: int | None = None,
        sources: Sequence[str] | None = None,
        expected_steps: int | None = None,
    ) -> None:
        """Take the indices of the sequences to use (``chosen``, by default all), and of those for validation where they
        are no share of them (``validation``).

        Args:
            problems: the problem of each sequence; by default each has its own.
            border: as for :class:`Steps`.
            most_steps: in place of the steps of ``sft``, for a run that another limit ends, after about
                ``expected_steps``.
            sources: the part of the data that each sequence is from.
        """
        super().__init__()
        self.targets: Sequence[int] | None = None  # as of Steps
        self.sequences = sequences
        chosen = range(len(sequences)) if chosen is None else chosen
        self.config = trainer
        self.seed = seed
        self.border = border
        problems = range(len(sequences)) if problems is None else problems
        parts = split([problems[i] for i in chosen], sft.validation_fraction, seed)
        kept, share = ([chosen[i] for i in part] for part in parts)
        held = share if validation is None else [*validation]
        lengths = [len(sequences[i].ids) for i in kept] if sft.batch_of == "packs" else []
        units = [[kept[i] for i in row] for row in pack(lengths, sft.max_tokens)] if lengths else [[i] for i in kept]
        steps = schedule(len(units), sft.batch_size, sft.epochs, seed, most_steps or sft.max_steps)
        if sft.curriculum.order != RANDOM:
            tokens = [sum(len(sequences[i].ids) for i in unit) for unit in units]
            parts_of_units = ["" if sources is None else sources[unit[0]] for unit in units]
            steps = ordered(sft.curriculum, steps, tokens, parts_of_units, seed, expected_steps)
        self.steps = [[index for unit in step for index in units[unit]] for step in steps]
        self.expected_steps = min(expected_steps or len(self.steps), len(self.steps))
        self.epoch_steps = -(-len(units) // sft.batch_size)
        self.validation_steps = [held[i : i + sft.batch_size] for i in range(0, len(held), sft.batch_size)]

    def train_dataloader(self) -> DataLoader[Step]:
        assert self.trainer is not None
        sampler = StepSampler(self.trainer.global_step, len(self.steps))
        # batch_size=None: an item is a whole step already.
        return DataLoader(self.of_this_rank(self.steps, self.targets), batch_size=None, sampler=sampler)

    def validation(self) -> Iterator[Step]:
        """The validation examples, a batch at a time."""
        steps = self.of_this_rank(self.validation_steps)
        return (steps[index] for index in range(len(steps)))

    def transfer_batch_to_device(self, batch: Step, device: torch.device, dataloader_idx: int) -> Step:
        return batch  # micro-batches move one at a time, and their borders are read on the CPU

    def of_this_rank(self, steps: list[list[int]], targets: Sequence[int] | None = None) -> Steps:
        """The steps as this rank computes them; ``targets`` as of :class:`Steps`."""
        assert self.trainer is not None
        each = self.config.context_parallel  # ranks with the same rows, of which each computes a part
        ranks = self.trainer.global_rank // each, self.trainer.world_size // each
        return Steps(self.sequences, steps, self.config, self.seed, ranks, self.border, targets)
