"""Two optimiser steps on one of several ranks (gloo), for the test of sharding; writes the weights that result.

Run as a program: ``sharded_steps.py RANK RANKS STORE OUTPUT``, where STORE is a file that all ranks share.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.config import TrainerConfig
from micota.sft.losses import Objective
from micota.sft.sharding import reduce_gradients, shard, whole

MICRO_BATCHES, TOKENS = 2, 16
TRAINER = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true", devices=2)


def untied() -> Any:
    """A model whose output head is not its embedding."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 33, "hidden_size": 32, "intermediate_size": 48}  # 33 rows do not divide evenly
    return AutoModelForCausalLM.from_config(
        LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, tie_word_embeddings=False)
    )


def batches(step: int, rank: int) -> list[dict[str, torch.Tensor]]:
    """The micro-batches of a rank."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    ids = [torch.randint(2, 33, (1, TOKENS), generator=generator) for _ in range(MICRO_BATCHES)]
    return [{"input_ids": row, "position_ids": torch.arange(TOKENS)[None], "labels": row} for row in ids]


def trained(objective: Objective, ranks: list[int], divisor: float) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights and gradient norms of two steps over the micro-batches of ``ranks``."""
    optimizer, norms = torch.optim.SGD(objective.parameters(), lr=0.5), []
    for step in range(2):
        optimizer.zero_grad()
        micro_batches = [batch for rank in ranks for batch in batches(step, rank)]
        for number, batch in enumerate(micro_batches, start=1):
            reduce_gradients(objective, number == len(micro_batches))
            objective(batch, {}, divisor).backward()
        norms.append(float(whole(torch.nn.utils.clip_grad_norm_(objective.parameters(), 10.0))))
        optimizer.step()
        with torch.no_grad():  # validation between two steps
            objective(micro_batches[0], {}, divisor)
    objective(micro_batches[0], {}, divisor).backward()  # weights are in shards after it, and not after a validation
    return {name: whole(weight.detach()).clone() for name, weight in objective.named_parameters()}, norms


def main() -> None:
    rank, ranks = int(sys.argv[1]), int(sys.argv[2])
    store = distributed.FileStore(sys.argv[3], ranks)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    objective = Objective(untied())
    shard(objective, init_device_mesh("cpu", (ranks,)), TRAINER)
    # FSDP2 averages gradients over ranks: the divisor is the number of tokens of one rank.
    found = trained(objective, [rank], MICRO_BATCHES * TOKENS)
    if rank == 0:
        torch.save(found, sys.argv[4])
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
