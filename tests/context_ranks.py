"""Loss and gradients of packed rows whose tokens are divided over processes, and the same of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from packed_models import FAMILIES, model_of, sequences
from torch import distributed

from micota.config import TrainerConfig
from micota.sft import context_parallel
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.losses import Objective
from micota.sft.packing import borders, collate

TRAINER = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true")
Result = tuple[torch.Tensor, dict[str, torch.Tensor]]
WIDTH = 97  # of rows, which no number of processes divides


def learn(family: str, group: Any = None, kind: str = "none") -> Result:
    """The sum of the loss over two rows or more, and gradients: of all processes together."""
    model = model_of(family, "sequences")
    batch = context_parallel.padded(collate(sequences(), WIDTH), 1 if group is None else group.size())
    assert batch["input_ids"].shape[0] >= 2
    edges, supervised = borders(batch["position_ids"]), float((batch["labels"] >= 0).sum())
    if group is not None:
        edges[context_parallel.GROUP] = group
        batch = context_parallel.part(batch, group)
    objective = Objective(model, checkpointing=ActivationCheckpointing(model, {kind: 1000}))
    loss = objective(batch, edges, supervised)
    loss.backward()
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    total = loss.detach()
    for values in (total, *grads.values()) if group is not None else ():
        distributed.all_reduce(values, group=group)
    return total, grads


def rank(number: int, size: int, folder: str) -> None:
    """One process: it writes what the processes of its group get together, by family and kind of checkpointing."""
    store = distributed.FileStore(str(Path(folder) / "store"), size)
    distributed.init_process_group("gloo", store=store, rank=number, world_size=size)
    group = context_parallel.group_of(TrainerConfig(
        name="cpu", accelerator="cpu", precision="32-true", devices=size, context_parallel=2,
    ))  # fmt: skip
    assert group is not None
    results = {(family, kind): learn(family, group, kind) for family in FAMILIES for kind in ("none", "full")}
    sent = torch.arange(8, dtype=torch.bfloat16).view(2, 4) + 10 * group.rank()
    torch.save({"results": results, "exchanged": context_parallel.exchange(sent, group)},
               Path(folder) / f"{number}.pt")  # fmt: skip
    distributed.destroy_process_group()
