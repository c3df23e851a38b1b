"""On-policy distillation: the student answers the prompts of the next steps, and learns on its answers.

Training goes in rounds of ``round_steps`` steps. At the start of a round the current student samples an answer to each
prompt of the round, in this process and from the weights in memory. The answers are written beside the checkpoints
before the first step on them, so that a killed run goes on with the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader

from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.quick_sums import changed, write_sums
from micota.data.turns import end_of_turn
from micota.engines.base import Output, Request
from micota.engines.hf import HFEngine
from micota.errors import ConfigError
from micota.graph.specs import Distillation
from micota.seeding import seed_of
from micota.sft.answering import answering
from micota.sft.data import SftDataModule, Step, Steps, StepSampler, empty_batch
from micota.sft.packing import Tokens
from micota.sft.sharding import gathered

ROUND = re.compile(r"round=(\d+)\.(jsonl|sums\.json)")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One answer that the student sampled for a step: the row of the data whose prompt it answers, and its tokens."""

    step: int
    example: int
    problem_id: str
    completion: str
    finish_reason: str
    token_ids: list[int]


class Rollouts:
    """The answers of each step, sampled a round at a time."""

    def __init__(
        self,
        settings: Distillation,
        tokenizer: Any,
        seed: int,
        folder: Path,
        problems: Sequence[str],
        rows: int,
        *,
        writes: bool,
    ) -> None:
        """
        Args:
            folder: of the files of rounds, which this rank writes with ``writes``.
            problems: the problem of each example. ``rows``: answers that are generated together.
        """
        assert settings.sampling is not None and settings.round_steps is not None
        self.round_steps = settings.round_steps
        self._sampling = replace(settings.sampling, num_samples=1)
        self._tokenizer, self._end = tokenizer, end_of_turn(tokenizer).id
        self._seed, self._folder, self._problems = seed, folder, problems
        self._rows, self._writes = rows, writes
        self._round = -1
        self._answers: dict[tuple[int, int], Rollout] = {}

    def of(self, step: int, steps: Sequence[Sequence[int]], prompts: Sequence[Tokens], module: Any) -> list[Tokens]:
        """The prompts of a step with the student's answers. Every rank must call this method."""
        number = step // self.round_steps
        if number != self._round:
            known = self._read(number, is_first=self._round < 0)
            first = number * self.round_steps
            wanted = [
                (at, place, example)
                for at in range(first, min(first + self.round_steps, len(steps)))
                for place, example in enumerate(steps[at])
            ]
            self._answers = known or self._sampled(number, wanted, prompts, module)
            self._round = number
        answers = [self._answers[step, place] for place in range(len(steps[step]))]
        return [self._tokens(prompts[answer.example], answer) for answer in answers]

    def _tokens(self, prompt: Tokens, answer: Rollout) -> Tokens:
        ids = prompt.prompt
        end = [self._end] if answer.finish_reason == "stop" else []
        return Tokens(ids=[*ids, *answer.token_ids, *end], num_prompt=len(ids))

    def _sampled(
        self, number: int, wanted: list[tuple[int, int, int]], prompts: Sequence[Tokens], module: Any
    ) -> dict[tuple[int, int], Rollout]:
        """Sample the answers of a round, each rank a share, and write them.

        Raises:
            ConfigError: the student's logits are no numbers.
        """
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        requests = [
            Request(
                id=(f"{step} {place}", 0),
                prompt_ids=prompts[example].prompt,
                seed=seed_of("rollout", self._seed, step, place, self._problems[example]),
            )
            for step, place, example in wanted[rank::world]
        ]
        outputs = {output.id[0]: output for output in self._generated(requests, module)}
        gathered_outputs: list[Any] = [outputs]
        if world > 1:
            gathered_outputs = [None] * world
            distributed.all_gather_object(gathered_outputs, outputs)
        every: dict[str, Output] = {name: output for part in gathered_outputs for name, output in part.items()}
        answers = {
            (step, place): self._rollout(step, example, every[f"{step} {place}"]) for step, place, example in wanted
        }
        if self._writes:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_jsonl(self._path(number), answers.values())
            self.note(number)
        return answers

    def _rollout(self, step: int, example: int, output: Output) -> Rollout:
        if output.error is not None:
            raise ConfigError(f"the student cannot sample at step {step}: {output.error}; lower the learning rate")
        assert output.token_ids is not None
        problem = self._problems[example]
        return Rollout(
            step=step, example=example, problem_id=problem, completion=output.text,
            finish_reason=output.finish_reason, token_ids=output.token_ids,
        )  # fmt: skip

    def _generated(self, requests: list[Request], module: Any) -> Iterator[Output]:
        """Answers of the current weights, in memory; training goes on as if nothing had been generated."""
        objective = module.objective
        if isinstance(objective, FSDPModule):  # FSDP2 finds its root in the first call of the whole objective
            with torch.no_grad():
                module.loss(empty_batch(), 1.0)
        engine = HFEngine.around(objective.model, self._tokenizer, self._rows)
        objective.eval()
        try:
            with answering(objective.model), gathered(objective):
                yield from engine.generate(requests, self._sampling)
        finally:
            objective.train()

    def _read(self, number: int, *, is_first: bool) -> dict[tuple[int, int], Rollout]:
        """The answers of a round that a killed run left. Later rounds are sampled again, as the run is before them.

        Raises:
            ConfigError: they are damaged; the weights of the round that sampled them may be gone.
        """
        path = self._path(number)
        if not is_first:
            return {}
        if self._writes and self._folder.exists():
            for file in self._folder.iterdir():
                if (match := ROUND.fullmatch(file.name)) and int(match[1]) > number:
                    file.unlink()
        sums = self._sums(number)
        if sums.exists() and (problem := changed(sums)) is not None:
            raise ConfigError(f"{problem}; delete {self._folder.parent} and run again, which starts over")
        rows = read_jsonl(path, Rollout) if path.exists() else []
        places: dict[int, int] = {}
        answers = {}
        for row in rows:
            place = places[row.step] = places.get(row.step, -1) + 1
            answers[row.step, place] = row
        return answers

    def note(self, number: int) -> None:
        """Write the sum of a round's file."""
        write_sums(self._sums(number), [self._path(number)])

    def _path(self, number: int) -> Path:
        return self._folder / f"round={number}.jsonl"

    def _sums(self, number: int) -> Path:
        return self._folder / f"round={number}.sums.json"


class RolloutSteps(Steps):
    """The optimiser steps of one rank, on the student's answers."""

    rollouts: Rollouts
    module: Any

    def __getitem__(self, index: int) -> Step:
        return self.step_of(index, self.rollouts.of(index, self.steps, self.sequences, self.module))


class RolloutDataModule(SftDataModule):
    """As its parent, with the student's answers in place of those of the data; validation has those of the data."""

    rollouts: Rollouts

    def train_dataloader(self) -> DataLoader[Step]:
        assert self.trainer is not None
        plain = self.of_this_rank(self.steps)
        steps = RolloutSteps(
            plain.sequences, plain.steps, plain.trainer, plain.seed, (plain.rank, plain.world_size), plain.border
        )
        steps.rollouts, steps.module = self.rollouts, self.trainer.lightning_module
        # In this process, a step at a time: the answers of a round are of the weights before it.
        return DataLoader(steps, batch_size=None, sampler=StepSampler(self.trainer.global_step, len(self.steps)))
