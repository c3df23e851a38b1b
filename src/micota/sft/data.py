"""The packed batch of every optimiser step. A step is ``batch_size`` examples, whatever the packing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from micota.config import SftConfig, TrainerConfig
from micota.packing import Batch, Tokens, collate


def schedule(num_examples: int, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """The indices of the examples of every optimiser step; each epoch is a permutation, and ends with a short step
    where the batch size does not divide it."""
    generator = np.random.default_rng(seed)
    steps: list[list[int]] = []
    for _ in range(epochs):
        order = generator.permutation(num_examples).tolist()
        steps += [order[start : start + batch_size] for start in range(0, num_examples, batch_size)]
    return steps


class Steps(Dataset[Batch]):
    """The packed batch of each optimiser step."""

    def __init__(self, sequences: Sequence[Tokens], steps: list[list[int]], capacity: int) -> None:
        self.sequences = sequences
        self.steps = steps
        self.capacity = capacity

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Batch:
        return collate([self.sequences[i] for i in self.steps[index]], self.capacity)


class StepSampler(Sampler[int]):
    """The steps that are left, while its length stays that of the whole run: Lightning counts done steps in."""

    def __init__(self, start: int, total: int) -> None:
        self.start = start
        self.total = total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.total))

    def __len__(self) -> int:
        return self.total


class SftDataModule(LightningDataModule):
    """All optimiser steps of a run as one Lightning epoch, from the step at which training (re)starts."""

    def __init__(self, sequences: Sequence[Tokens], sft: SftConfig, trainer: TrainerConfig, seed: int) -> None:
        super().__init__()
        self.steps = schedule(len(sequences), sft.batch_size, sft.epochs, seed)
        self._dataset = Steps(sequences, self.steps, max(trainer.pack_tokens, max(len(s.ids) for s in sequences)))

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        sampler = StepSampler(self.trainer.global_step, len(self.steps))
        return DataLoader(self._dataset, batch_size=None, sampler=sampler)
