"""Memory, disk and arithmetic of commands with real models, by the estimates of ``micota.sft.memory``; runs nothing.

    python benchmarks/hardware.py --long-tokens 4000 --middle-tokens 2000 --short-tokens 600

Lengths of chains are assumptions: the teacher's, the merged TA's, the instruct models'. ``hours`` is arithmetic divided
by ``--mfu`` of the peak of ``--gpu``, for training alone: no throughput of generation can be derived.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import torch
from sft_gpu import architecture
from transformers import AutoModelForCausalLM

from micota.config import TrainerConfig
from micota.sft.memory import PEAK_TFLOPS, Shape, gib, memory_bytes, most_tokens

NUM_EXAMPLES = 12_000  # of problems=math12k, as if every answer passed the filters
LONGEST = 16_384  # sft.max_tokens
PROMPT_TOKENS = 100
CAPACITY = 80 * 10**9  # bytes of an 80 GB GPU


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training command: ``kind`` is the length of its examples."""

    command: str
    size: str
    kind: str
    epochs: int
    devices: int = 1


TRAININGS = (
    Training(command="train.py role=ta", size="14b", kind="long", epochs=2, devices=8),
    Training(command="train.py student=qwen1.5b data=micota", size="1.5b", kind="middle", epochs=3),
    Training(command="train.py student=qwen3b data=micota", size="3b", kind="middle", epochs=3),
    Training(command="train.py student=qwen7b data=micota", size="7b", kind="middle", epochs=2, devices=4),
)


def shape(size: str) -> Shape:
    """The sizes of a model, built without weights."""
    with torch.device("meta"):
        return Shape.of(AutoModelForCausalLM.from_config(architecture(size)))


def line(training: Training, tokens: int, gpu: str, mfu: float) -> str:
    """A row of the table: GPUs, memory of each, disk, PFLOP, hours."""
    sizes = shape(training.size)
    trainer = TrainerConfig(
        name="gpu", accelerator="gpu", precision="bf16-mixed", devices=training.devices, pack_length=16384
    )
    limits = most_tokens(sizes, trainer, LONGEST, CAPACITY)
    kinds = ", ".join(limits)
    trainer = replace(trainer, activation_checkpointing=[*limits][-1])
    memory = sum(memory_bytes(sizes, trainer, LONGEST, limits).values())
    disk = 4 * (2 * 3 * sizes.trained + sizes.weights)  # as check_disk: two checkpoints for a moment, and the export
    flops = training.epochs * NUM_EXAMPLES * sizes.flops([PROMPT_TOKENS + tokens], tokens)
    hours = flops / (training.devices * PEAK_TFLOPS[gpu] * 1e12 * mfu) / 3600
    cells = (
        training.command, str(training.devices), f"{sizes.weights / 1e9:.2f}", gib(memory), kinds, gib(disk),
        f"{flops / 1e18:.2f}", f"{hours:.1f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long-tokens", type=int, default=4000)
    parser.add_argument("--middle-tokens", type=int, default=2000)
    parser.add_argument("--short-tokens", type=int, default=600)
    parser.add_argument("--gpu", choices=sorted(PEAK_TFLOPS), default="H100")
    parser.add_argument("--mfu", type=float, default=0.35, help="share of the peak that training reaches")
    options = parser.parse_args()
    tokens = {"long": options.long_tokens, "middle": options.middle_tokens, "short": options.short_tokens}
    print("| command | GPUs | weights, 10^9 | GiB on each | checkpointing | GiB of disk | EFLOP | hours |")
    print("|---|---|---|---|---|---|---|---|")
    for training in TRAININGS:
        print(line(training, tokens[training.kind], options.gpu, options.mfu))
    print(f"\nrows generated, 10^6 tokens: { {kind: NUM_EXAMPLES * count / 1e6 for kind, count in tokens.items()} }")


if __name__ == "__main__":
    main()
