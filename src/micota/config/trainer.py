"""The schema of where and how training runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from micota.config.fields import choice, plain, positive, slug, words


@dataclass(kw_only=True)
class TrainerConfig:
    """Where and how training runs. Weights, gradients and optimiser states are sharded over ``devices`` x
    ``num_nodes``."""

    name: str = slug(about="Its name.", results=False)
    accelerator: str = choice("cpu", "gpu", about="The kind of device.", results=False)
    precision: str = choice(
        "32-true",
        "bf16-mixed",
        "bf16-true",
        about="The type of products and of weights: both float32, bfloat16 products with float32 weights, or both "
        "bfloat16. It holds for the BPC and rank shifts too.",
        results=True,
    )
    quantize: str = choice(
        "none",
        "nf4",
        default="none",
        about="The type of the base model under adapters: that of precision, or 4 bits (NF4, as in QLoRA, arXiv "
        "2305.14314), on one device. The adapters are added to the unquantised weights in the end.",
        results=True,
        added=True,
    )
    devices: int | None = positive(
        1,
        about="Devices on each node; null: as few GPUs as the memory estimate allows, of those that there are.",
        unit="devices",
        results=False,
    )
    num_nodes: int = positive(1, about="Machines.", unit="machines", results=False)
    context_parallel: int = positive(
        1,
        about="Devices that divide the tokens of a row among them, for rows of more tokens than one device holds. It "
        "divides devices x num_nodes, and the heads of the model.",
        unit="devices",
        results=False,
    )
    pack_length: int = positive(
        16384, about="Examples are packed into rows of this many tokens.", unit="tokens", results=False
    )
    micro_batch_rows: int = positive(
        1, about="Packed rows of one forward and backward pass.", unit="rows", results=False
    )
    attention: str = choice(
        "auto",
        "flash_attn",
        "varlen",
        "sequences",
        "flex",
        "sdpa",
        "eager",
        default="auto",
        about="The attention kernel; auto: the fastest that the device and the model allow.",
        results=True,
    )
    loss: str = choice(
        "auto",
        "chunked",
        "liger",
        default="auto",
        about="The implementation of the loss; auto: the fastest that the device allows.",
        results=True,
    )
    kernels: str = choice(
        "torch",
        "liger",
        default="torch",
        about="The implementation of norms, rotations and gated MLPs; liger: the fused kernels of Liger Kernel on a "
        "GPU, which differ in rounding.",
        results=False,
    )
    compile: bool = plain(
        False,
        about="true: torch.compile fuses the operations of each layer, which differ in rounding and take minutes to "
        "compile at the start.",
        results=False,
    )
    checkpoint_every: int = positive(
        100, about="Steps between checkpoints to resume from.", unit="steps", results=False
    )
    async_checkpoints: bool = plain(
        False,
        about="true: checkpoints are written while training goes on, from a copy of weights and moments in the "
        "machine's memory.",
        results=False,
    )
    keep_checkpoint: bool = plain(
        False, about="true: the last checkpoint stays in the artifact, for a longer run (continue_from).", results=False
    )
    continue_from: str | None = words(
        None,
        about="The folder of a model that train made with keep_checkpoint=true: this run, which differs in epochs or "
        "max_steps alone, begins where it ended.",
        results=False,
    )
    save_model_every: int | None = positive(
        None,
        about="Steps between models that are written beside the last, as models/step=N in its folder; null: none.",
        unit="steps",
        results=False,
    )
    keep_models: int | None = positive(
        None, about="Only this many of the newest of these models are kept; null: all.", unit="models", results=False
    )
    validate_every: int | None = positive(
        None, about="Steps between validation losses; null: only at the end.", unit="steps", results=False
    )
    evaluate_every: int | None = positive(
        None, about="Steps between evaluations on benchmarks during training; null: none.", unit="steps", results=False
    )
    evaluate_problems: int = positive(
        32,
        about="These evaluations use only this many of the first problems of each benchmark.",
        unit="problems",
        results=False,
        counts_with=("evaluate_every!=null",),
    )
    activation_checkpointing: str = choice(
        "auto",
        "none",
        "selective",
        "full",
        default="auto",
        about="The activations that are computed again to save memory; auto: as few as memory allows.",
        results=False,
    )
    gradient_reduction: str = choice(
        "auto",
        "step",
        "micro_batch",
        default="auto",
        about="When gradients are summed over devices: once a step, for which each holds whole gradients between its "
        "micro-batches, or after each micro-batch; auto: once a step where memory allows.",
        results=False,
    )
    cpu_offload: bool = plain(
        False,
        about="true: weights, gradients and optimiser states stay in the machine's memory, where they are sharded.",
        results=False,
    )
    check_memory: bool = plain(True, about="A run that is not likely to fit is refused.", results=False)
    peak_tflops: float | None = positive(
        None,
        about="The peak of one device, for the MFU; null: known for common GPUs.",
        unit="TFLOP/s",
        results=False,
    )

    @property
    def num_devices(self) -> int:
        """Devices on each node; 1 where their number is still open."""
        return self.devices or 1

    @property
    def world_size(self) -> int:
        return self.num_devices * self.num_nodes

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP2 holds the weights: over several devices, and on one GPU too. It computes in bfloat16 with
        float32 weights without autocast, which casts each weight at each use and leaves some inputs of attention in
        float32; and every GPU run takes the same path, but for a base of 4 bits, which FSDP2 does not hold."""
        return (self.accelerator == "gpu" and self.quantize == "none") or self.world_size > 1

    def conflicts(self) -> Iterator[str]:
        if self.keep_models is not None and self.save_model_every is None:
            yield (
                f"keep_models={self.keep_models} without save_model_every; accepted: save_model_every above 0 with it"
            )
        if self.quantize != "none" and (self.world_size > 1 or self.cpu_offload):
            what = "cpu_offload=True" if self.cpu_offload else f"{self.world_size} devices"
            yield (
                f"quantize={self.quantize} with {what}: FSDP2 cannot hold weights of 4 bits; accepted: devices=1 and "
                "cpu_offload=false with it, or quantize=none"
            )
        if self.devices is not None and self.world_size % self.context_parallel:
            yield (
                f"context_parallel={self.context_parallel} with {self.world_size} devices; accepted: a number that "
                "divides devices x num_nodes"
            )
        if self.context_parallel > 1 and self.compile:
            yield (
                f"context_parallel={self.context_parallel} with compile=True, which cannot compile the exchange of "
                "heads; accepted: compile=false with it, or context_parallel=1"
            )
        if self.kernels == "liger" and self.compile:
            yield "kernels=liger with compile=True, which fuse the same operations; accepted: one of both"
        if self.cpu_offload and self.accelerator == "cpu":
            yield "cpu_offload=True with accelerator=cpu, where everything is there already; accepted: trainer=gpu"
        if self.evaluate_every is not None and self.world_size > 1:
            yield (
                f"evaluate_every={self.evaluate_every} with {self.world_size} devices: a model in shards generates no "
                "answers during training; accepted: evaluate_every=null (validate_every works), or devices=1"
            )
