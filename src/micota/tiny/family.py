"""Pre-trains the toy Qwen2 students of six sizes: `python -m micota.tiny.family [qwen-33k qwen-66k ...]`.

Every size has one pre-training run, the trunk: mix A at a constant learning rate. A student is a checkpoint of the
trunk that goes on with mix B while its learning rate decays to 5 % (warm-up, stable, decay: Hu et al. 2024, arXiv
2404.06395). So students of several lengths of pre-training cost little more than the longest one. That of the middle
length is bundled; `benchmarks/forecast_students.py` makes the others.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from micota.tiny.byte_tokenizer import build_tokenizer
from micota.tiny.pretrain import (
    BATCH_SIZE,
    CLIP_NORM,
    FOLDER,
    LOG,
    NUM_WARMUP_STEPS,
    build_optimisers,
    evaluate,
    initialise,
    lr_ratio,
    sample_pair,
)
from micota.tiny.problems import excluded_chains
from micota.tiny.recipes import HEAD_DIM, A, B, Corpus, Stage
from micota.tiny.task import Chain
from micota.tiny.tokenizer import MAX_LENGTH

hf: Any = transformers  # its constructors do not pass a strict type checker

ROWS_AT_ONCE = 8
"""Rows of one forward pass. Rows of a batch are sorted by length first: together they would be two thirds padding."""
LOG_EVERY = 100
"""Steps whose mean loss is logged."""
Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its response."""


@dataclass(frozen=True)
class Member:
    """The shape of a student, and the steps of its trunk at which students branch off, by the name of the length."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    lengths: dict[str, int]
    seed: int = 0


def _lengths(early: int, middle: int, late: int) -> dict[str, int]:
    return {"early": early, "middle": middle, "late": late}


TRUNK = Stage(A, 0, 0.02, 5e-3)
BRANCH = Stage(B, 200, 0.015, 4e-3)

# The lengths are chosen on development problems, so that the accuracy before SFT is neither near 0 nor near 100 %.
FAMILY: dict[str, Member] = {
    "qwen-33k": Member(32, 2, 1, 64, _lengths(1000, 1200, 1400)),
    "qwen-66k": Member(48, 2, 2, 96, _lengths(300, 350, 400)),
    "qwen-111k": Member(64, 2, 2, 160, _lengths(350, 400, 450)),
    "qwen-163k": Member(64, 3, 2, 176, _lengths(200, 250, 300)),
    "qwen-249k": Member(96, 3, 3, 160, _lengths(150, 200, 250)),
    "qwen-387k": Member(112, 3, 3, 256, _lengths(75, 100, 125)),
}


def parameters_of(member: Member) -> tuple[int, int]:
    """The number of all parameters of a student, and of those of its embedding, which is its output head too."""
    hidden, queries, keys = member.hidden_size, member.num_heads * HEAD_DIM, HEAD_DIM
    attention = hidden * (2 * queries + 2 * keys) + queries + 2 * keys  # with biases of queries, keys and values
    layer = attention + 3 * hidden * member.intermediate_size + 2 * hidden  # two norms
    embedding = len(build_tokenizer()) * hidden
    return embedding + member.num_layers * layer + hidden, embedding


def build_model(member: Member, tokenizer: Any) -> Any:
    """A freshly initialised Qwen2 in float32, with the shapes of ``member`` and tied embeddings."""
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = hf.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=member.hidden_size,
        intermediate_size=member.intermediate_size,
        num_hidden_layers=member.num_layers,
        num_attention_heads=member.num_heads,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        dtype="float32",
        **special,
    )
    model = hf.Qwen2ForCausalLM(config)
    torch.manual_seed(member.seed)
    for name, parameter in model.named_parameters():
        initialise(name, parameter)
    model.generation_config = hf.GenerationConfig(**special)
    return model


def sample_rows(tokenizer: Any, corpus: Corpus, rng: random.Random, excluded: set[Chain]) -> list[Row]:
    """One batch of fresh samples, from the shortest to the longest."""
    pairs = [sample_pair(rng, corpus, excluded, tokenizer.eos_token) for _ in range(BATCH_SIZE)]
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    responses = tokenizer([response for _, response in pairs])["input_ids"]
    return sorted(zip(prompts, responses, strict=True), key=lambda row: len(row[0]) + len(row[1]))


def padded(rows: Sequence[Row], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the right, and a mask of the tokens of responses: both (rows, tokens)."""
    length = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.full((len(rows), length), pad_id)
    is_response = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[index, :end] = torch.tensor(prompt + response)
        is_response[index, len(prompt) : end] = True
    return ids, is_response


def backward(model: Any, rows: Sequence[Row], pad_id: int) -> float:
    """Add the gradient of the mean loss over the batch's response tokens; returns the loss in nats a token."""
    num_tokens = sum(len(response) for _, response in rows)
    total = 0.0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        ids, is_response = padded(rows[start : start + ROWS_AT_ONCE], pad_id)
        # Padding is on the right, where causal attention never looks: no mask is needed. The output head sees only
        # positions whose next token counts.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][is_response[:, 1:]]
        loss = cross_entropy(model.lm_head(hidden), ids[:, 1:][is_response[:, 1:]], reduction="sum") / num_tokens
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def trunk_ratio(step: int) -> float:
    """Warm-up, then a constant learning rate."""
    return min(1.0, (step + 1) / NUM_WARMUP_STEPS)


def branch_ratio(step: int) -> float:
    """Warm-up, as optimisers are new, then linear decay to 5 %."""
    return lr_ratio(step, BRANCH.num_steps)


def train(model: Any, tokenizer: Any, stage: Stage, ratio: Any, rng: random.Random) -> Iterator[tuple[int, float]]:
    """Train without end, yielding after each step its number, from 1, and its loss."""
    optimisers = build_optimisers(model, stage)
    schedules = [LambdaLR(optimiser, ratio) for optimiser in optimisers]
    excluded = excluded_chains()
    step = 0
    while True:
        step += 1
        model.train()
        loss = backward(model, sample_rows(tokenizer, stage.corpus, rng, excluded), tokenizer.pad_token_id)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
        yield step, loss


def branch(name: str, length: int, model: Any, tokenizer: Any) -> float:
    """Finish a copy of the trunk's model at step ``length``, in place; returns the mean loss of the last steps."""
    losses: list[float] = []
    for step, loss in train(model, tokenizer, BRANCH, branch_ratio, random.Random(f"{name}-{length}")):
        losses.append(loss)
        if step == BRANCH.num_steps:
            break
    return _recent(losses)


def students(name: str, lengths: Sequence[int]) -> Iterator[tuple[int, Any, str]]:
    """The students of one size, from the shortest length of pre-training on: length, model and a line for the log."""
    member = FAMILY[name]
    tokenizer = build_tokenizer()
    model = build_model(member, tokenizer)
    rng = random.Random(f"{name}-{member.seed}")
    losses: list[float] = []
    for step, loss in train(model, tokenizer, TRUNK, trunk_ratio, rng):
        losses.append(loss)
        if step in lengths:
            finished = copy.deepcopy(model)
            last = branch(name, step, finished, tokenizer)
            line = f"{step} steps, loss {_recent(losses):.4f}; {BRANCH.num_steps} steps of decay, loss {last:.4f}"
            yield step, finished, line
        if step == max(lengths):
            return


def _recent(losses: Sequence[float]) -> float:
    """The mean of the last ones."""
    return math.fsum(losses[-LOG_EVERY:]) / len(losses[-LOG_EVERY:])


def save(model: Any, folder: Path) -> None:
    """Write a model and its tokenizer; the folder is there only when it is whole."""
    part = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    build_tokenizer().save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def pretrain(name: str, folders: dict[int, Path]) -> Iterator[str]:
    """Pre-train the students of one size, write them into ``folders`` (by length), and yield lines for a log."""
    torch.set_num_threads(1)
    started = time.process_time()
    for length, model, line in students(name, list(folders)):
        save(model, folders[length])
        yield f"{sum(p.numel() for p in model.parameters())} parameters, {line}"
        yield from evaluate(folders[length])
    yield f"{time.process_time() - started:.0f} s of CPU time with 1 thread"


def main() -> None:
    """Pre-train the named students, or all of them, one after another, and bundle them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILY))
    names = parser.parse_args().names
    if unknown := set(names) - FAMILY.keys():
        parser.error(f"NAME has {', '.join(sorted(unknown))}; accepted: {', '.join(FAMILY)}")
    for name in names or FAMILY:
        lines = []
        for line in pretrain(name, {FAMILY[name].lengths["middle"]: FOLDER / name}):
            print(f"{name}: {line}", flush=True)
            lines.append(line)
        (FOLDER / name / LOG).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
