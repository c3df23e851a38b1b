from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import thorough_after
from fake_memory import peak_bytes
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from micota.config import LoraConfig, SamplingConfig, SftConfig, ShapeConfig, TrainerConfig
from micota.errors import ConfigError
from micota.graph.specs import Distillation
from micota.sft import freezing as frozen
from micota.sft import lora as adapters
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.attention import implementation
from micota.sft.fitting import check_disk, check_memory
from micota.sft.kinds import ALONE, ORDER
from micota.sft.liger import PACKAGES, use_liger
from micota.sft.losses import Objective
from micota.sft.memory import gradient_reduction, memory_bytes, most_tokens
from micota.sft.packing import Tokens, borders, collate
from micota.sft.shape import Shape
from micota.sft.teacher import DistillationObjective, Teacher

SFT = SftConfig(learning_rate=1e-5, batch_size=32, epochs=2).settled()
GPU = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-mixed", activation_checkpointing="full")
LIMITS = {"full": 16384}
GIB = 2**30


def qwen7b() -> Shape:
    config = Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        return Shape.of(AutoModelForCausalLM.from_config(config))


def with_adapters(shape: Shape) -> Shape:
    """Adapters of a hundredth of the weights, on top of frozen ones."""
    count = shape.weights // 100
    return replace(shape, weights=shape.weights + count, trained=count, adapters=count, trains_head=False)


def test_sizes_are_those_of_the_model() -> None:
    shape = qwen7b()
    assert shape.weights == shape.trained == 7_615_616_512  # as the card of Qwen2.5-7B has it, 7.61B
    assert shape.weights - shape.outside == pytest.approx(6.53e9, rel=1e-3)  # "6.53B non-embedding" there
    assert shape.head * 2 == shape.outside and shape.attention == 3584


def test_flops_are_those_that_pytorch_counts() -> None:
    """Eager attention computes the whole matrix, of which causal attention needs half."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2),
        attn_implementation="eager",
    )
    shape, tokens = Shape.of(model), [Tokens(ids=[3] * 50, num_prompt=20)]
    batch = collate(tokens, 50)
    with FlopCounterMode(display=False) as counter:
        Objective(model)(batch, borders(batch["position_ids"]), 30.0).backward()
    attention = 6 * shape.num_layers * shape.attention * 50**2
    rotary = 2 * 16 // 2 * 50  # the angles, a product of positions and frequencies, forward alone
    in_place = 2 * shape.head * 30  # the gradient of the head, which PyTorch's counter omits
    assert counter.get_total_flops() == pytest.approx(shape.flops([50], 30) + attention - in_place, abs=rotary)


def test_frozen_weights_cost_fewer_operations() -> None:
    shape = qwen7b()
    adapters = with_adapters(shape)
    assert adapters.flops([1000], 500) < 0.7 * shape.flops([1000], 500)
    assert sum(memory_bytes(adapters, GPU, 16384).values()) < 0.5 * sum(memory_bytes(shape, GPU, 16384).values())


def test_the_estimate_follows_the_settings() -> None:
    shape = qwen7b()
    parts = memory_bytes(shape, GPU, 16384)
    assert parts["weights"] + parts["gradients"] + parts["optimiser"] == 16 * shape.weights
    sharded = memory_bytes(shape, replace(GPU, devices=8), 16384)
    assert sharded["optimiser"] == parts["optimiser"] // 8
    assert (
        memory_bytes(shape, replace(GPU, activation_checkpointing="none"), 16384)["activations"]
        > 5 * parts["activations"]
    )
    assert memory_bytes(shape, replace(GPU, devices=2, cpu_offload=True), 16384)["optimiser"] == 0


@pytest.mark.parametrize(("kind", "each"), [("adamw", 8), ("adamw_8bit", 2), ("paged_adamw_8bit", 0)])
def test_moments_have_the_size_of_their_kind(kind: str, each: int) -> None:
    shape = qwen7b().trained_by(replace(SFT, optimizer=kind))
    assert memory_bytes(shape, GPU, 16384)["optimiser"] == each * shape.trained


def test_no_more_is_computed_again_than_memory_requires() -> None:
    auto = replace(GPU, activation_checkpointing="auto")
    capacities = (140, 185, 205, 250, 600)
    kinds = {capacity: [*most_tokens(qwen7b(), auto, 16384, capacity * GIB)][-1] for capacity in capacities}
    assert kinds == {
        140: "full", 185: "1/2 selective 1/2 full", 205: "3/4 selective 1/4 full", 250: "1/2 none 1/2 selective",
        600: "none",
    }  # fmt: skip
    for kind in ALONE:
        assert most_tokens(qwen7b(), replace(auto, activation_checkpointing=kind), 99, GIB) == {kind: 16384}
    used = [
        memory_bytes(qwen7b(), replace(GPU, activation_checkpointing=kind), 16384)["activations"]
        for kind in ("full", "selective", "none")
    ]
    assert used == sorted(used)


def test_gradients_are_summed_once_a_step_where_memory_allows() -> None:
    shape, eight = qwen7b(), replace(GPU, devices=8)
    assert gradient_reduction(shape, GPU, 16384, LIMITS, 139 * GIB) == "step", "one device holds whole gradients"
    assert gradient_reduction(shape, eight, 16384, LIMITS, 40 * GIB) == "micro_batch"
    assert gradient_reduction(shape, eight, 16384, LIMITS, 80 * GIB) == "step"
    once = replace(eight, gradient_reduction="step")
    assert gradient_reduction(shape, once, 16384, LIMITS, GIB) == "step"
    with pytest.raises(ConfigError, match=r"would help: trainer\.gradient_reduction=micro_batch"):
        check_memory(shape, SFT, once, 16384, LIMITS, capacity=40 * GIB)
    difference = memory_bytes(shape, once, 16384)["gradients"] - memory_bytes(shape, eight, 16384)["gradients"]
    assert difference == pytest.approx(4 * shape.trained * 7 / 8)


@pytest.mark.parametrize("capacity", [140, 300, 600])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_no_micro_batch_needs_more_than_a_full_one(capacity: int, precision: str) -> None:
    shape, longest = qwen7b(), 20_000  # an example that is longer than a row
    auto = replace(GPU, activation_checkpointing="auto", precision=precision, pack_length=8192)
    limits = most_tokens(shape, auto, longest, capacity * GIB)
    assert [*limits.values()] == sorted(limits.values())
    full = sum(memory_bytes(shape, auto, 1, limits).values())
    for kind, most in limits.items():
        if most and kind != "full":
            alone = replace(auto, activation_checkpointing=kind, pack_length=most)
            assert sum(memory_bytes(shape, alone, 1).values()) <= full
            more = replace(alone, pack_length=most + most // 50)
            assert sum(memory_bytes(shape, more, 1).values()) > full


def test_a_longer_example_computes_more_again() -> None:
    shape = qwen7b()
    for accelerator, kinds in (("cpu", ["none", "full"]), ("gpu", [*ORDER[: ORDER.index("selective") + 1]])):
        precision = "32-true" if accelerator == "cpu" else "bf16-true"
        auto = TrainerConfig(name="x", accelerator=accelerator, precision=precision, pack_length=512)
        assert [*most_tokens(shape, auto, 512, 300 * GIB)] == ["none"]
        assert [*most_tokens(shape, auto, 900, 300 * GIB)] == kinds


def test_an_impossible_run_is_refused_with_what_would_help() -> None:
    check_memory(qwen7b(), SFT, GPU, 16384, LIMITS, capacity=139 * GIB)  # one H200
    with pytest.raises(ConfigError) as caught:
        check_memory(qwen7b(), SFT, GPU, 16384, LIMITS, capacity=80 * GIB)
    text = str(caught.value)
    assert "training needs about" in text and "on each GPU (weights 28.4" in text and "76.0 GiB can be used" in text
    assert "what would help: trainer=fsdp trainer.devices=2;" in text and "sft.lora" in text
    check_memory(qwen7b(), SFT, replace(GPU, devices=2), 16384, LIMITS, capacity=80 * GIB)
    with pytest.raises(ConfigError, match=r"help: trainer=fsdp trainer\.devices=4; trainer=fsdp trainer\.devices=8;"):
        check_memory(qwen7b(), SFT, replace(GPU, devices=2), 16384, LIMITS, capacity=60 * GIB)
    check_memory(qwen7b(), SFT, replace(GPU, check_memory=False), 16384, LIMITS, capacity=80 * GIB)


def test_too_little_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoints and export need 184.4 GiB and 100.0 GiB are free.*artifacts="):
        check_disk(tmp_path, qwen7b(), GPU, 100 * GIB, written=2)
    check_disk(tmp_path, qwen7b(), GPU, 200 * GIB, written=2)
    with pytest.raises(ConfigError, match=r"checkpoints and export need .* GiB and 200.0 GiB are free"):
        check_disk(tmp_path, qwen7b(), GPU, 200 * GIB, written=2, keeps_best=True)
    with pytest.raises(ConfigError, match=r"checkpoints and export need .* GiB and 200.0 GiB are free"):
        check_disk(tmp_path, qwen7b(), replace(GPU, save_model_every=9, keep_models=2), 200 * GIB, written=2)


@pytest.mark.parametrize(("targets", "dora", "expected"), [
    (["all-linear"], False, 28 * 16 * (4 * 3584 + 2 * (3584 + 512) + 3 * (3584 + 18944))),
    (["q_proj"], False, 28 * 16 * 2 * 3584),
    ([r".*layers\.(0|1)\.mlp\.up_proj"], True, 2 * (16 * (3584 + 18944) + 18944)),
])  # fmt: skip
def test_a_plan_counts_the_weights_of_adapters(targets: list[str], dora: bool, expected: int) -> None:
    sizes = ShapeConfig(layers=28, hidden=3584, intermediate=18944, heads=28, kv_heads=4, vocab=152064)
    lora = LoraConfig(r=16, alpha=32, targets=targets, dora=dora)
    assert Shape.from_config(sizes, lora).trained == expected


@pytest.mark.parametrize("freeze", [["model.embed_tokens"], [r"model\.layers\.(\d|1\d)\..*"], ["lm_head", ".*bias"]])
@pytest.mark.parametrize("tied", [True, False])
def test_a_plan_counts_frozen_weights_as_the_model_does(freeze: list[str], tied: bool) -> None:
    config = Qwen2Config(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=28, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    frozen.freeze(model, freeze)
    sizes = ShapeConfig(layers=28, hidden=64, intermediate=128, heads=4, kv_heads=2, vocab=1000, tied=tied)
    assert Shape.to_train(sizes, replace(SFT, freeze=freeze)) == Shape.of(model)


def test_frozen_weights_have_no_gradients_and_no_moments() -> None:
    sizes = ShapeConfig(layers=28, hidden=3584, intermediate=18944, heads=28, kv_heads=4, vocab=152064)
    whole = Shape.to_train(sizes, SFT)
    few = Shape.to_train(sizes, replace(SFT, freeze=[r"model\.(embed|layers\.(\d|1\d|2[0-6])\.).*", "lm_head"]))
    layer = few.trained
    assert layer == pytest.approx(6.53e9 / 28, rel=1e-3) and not few.trains_head
    for precision, held in (("bf16-mixed", 4), ("bf16-true", 2)):
        parts = memory_bytes(few, replace(GPU, precision=precision), 16384)
        assert parts["weights"] == held * whole.weights  # in bfloat16 too: no adapters
        assert (parts["gradients"], parts["optimiser"]) == (held * layer, 8 * layer)
    assert 0.66 < few.flops([1000], 500) / whole.flops([1000], 500) < 0.7


def test_what_is_offloaded_needs_the_memory_of_the_machine() -> None:
    """On one GPU too: FSDP2 holds the weights there."""
    shape, offloads = qwen7b(), replace(GPU, cpu_offload=True)
    parts = memory_bytes(shape, offloads, 16384)
    assert parts["weights"] == parts["gradients"] == parts["optimiser"] == 0
    assert sum(parts.values()) < 24 * GIB < sum(memory_bytes(shape, GPU, 16384).values())
    check_memory(shape, SFT, offloads, 16384, LIMITS, capacity=40 * GIB, host=200 * GIB)
    text = r"cpu_offload=true keeps about 113.5 GiB in the machine's memory \(weights 28.4, .*and 95.0 GiB can be used"
    with pytest.raises(ConfigError, match=text):
        check_memory(shape, SFT, offloads, 16384, LIMITS, capacity=40 * GIB, host=100 * GIB)
    with pytest.raises(ConfigError, match=r"what would help: trainer.cpu_offload=true;"):
        check_memory(shape, SFT, replace(GPU, devices=16), 16384, LIMITS, capacity=15 * GIB)


def test_a_checkpoint_is_copied_into_the_memory_of_the_machine() -> None:
    """Of a GPU in any case, of a CPU where training goes on while it is written."""
    shape, cpu = qwen7b(), replace(GPU, accelerator="cpu", precision="32-true", devices=2)
    before, after = (memory_bytes(shape, replace(cpu, async_checkpoints=on), 16384) for on in (False, True))
    assert after == before | {"checkpoint": 12 * shape.weights // 2}
    with pytest.raises(ConfigError, match=r"what would help: trainer.async_checkpoints=false;"):
        check_memory(shape, SFT, replace(cpu, async_checkpoints=True), 16384, LIMITS, capacity=120 * GIB)
    text = r"keeps about 85.1 GiB in the machine's memory \(copy for checkpoints 85.1\), and 76.0 GiB can .*num_nodes=2"
    with pytest.raises(ConfigError, match=text):
        check_memory(shape, SFT, GPU, 16384, LIMITS, capacity=139 * GIB, host=80 * GIB)
    check_memory(shape, SFT, replace(GPU, num_nodes=2), 16384, LIMITS, capacity=139 * GIB, host=80 * GIB)
    adapters = with_adapters(shape)
    check_memory(adapters, SFT, GPU, 16384, LIMITS, capacity=139 * GIB, host=2 * GIB)
    check_memory(shape, SFT, GPU, 16384, LIMITS, capacity=139 * GIB)  # of a machine with GPUs nothing is known here
    offloads = replace(GPU, cpu_offload=True)
    check_memory(shape, SFT, offloads, 16384, LIMITS, capacity=40 * GIB, host=130 * GIB)
    with pytest.raises(ConfigError, match=r"copy for checkpoints 85.1.*help: trainer.async_checkpoints=false"):
        twice = replace(offloads, async_checkpoints=True)
        check_memory(shape, SFT, twice, 16384, LIMITS, capacity=40 * GIB, host=130 * GIB)


def test_devices_that_share_rows_are_proposed_where_they_help() -> None:
    """131,072 tokens of one example are on one device without it, however many there are."""
    more = "trainer.devices=16; trainer=fsdp trainer.devices=4 trainer.context_parallel=4;"
    for devices, proposed in ((4, "trainer.context_parallel=2; trainer.context_parallel=4;"), (1, more)):
        with pytest.raises(ConfigError) as caught:
            check_memory(qwen7b(), SFT, replace(GPU, devices=devices), 131072, {"full": 131072}, capacity=80 * GIB)
        assert proposed in str(caught.value)


def test_bfloat16_weights_have_float32_moments() -> None:
    shape, pure = qwen7b(), replace(GPU, precision="bf16-true")
    parts = memory_bytes(shape, pure, 16384)
    assert parts["weights"] + parts["gradients"] + parts["optimiser"] == 12 * shape.weights
    adapters = with_adapters(shape)
    parts = memory_bytes(adapters, pure, 16384)
    assert parts["weights"] + parts["gradients"] + parts["optimiser"] == pytest.approx(2.14 * shape.weights, rel=1e-2)


# Qwen2.5 by size: width, width of the MLP, layers, heads, heads of keys, vocabulary, tied.
SIZES = {
    "small": (256, 704, 4, 8, 2, 8192, False),
    "wide": (1024, 8192, 1, 8, 2, 8192, False),
    "1.5b": (1536, 8960, 28, 12, 2, 151936, True),
    "3b": (2048, 11008, 36, 16, 2, 151936, True),
    "7b": (3584, 18944, 28, 28, 4, 152064, False),
    "14b": (5120, 13824, 48, 40, 8, 152064, False),
}


def config_of(size: str) -> Qwen2Config:
    width, inner, layers, heads, shared, vocabulary, tied = SIZES[size]
    return Qwen2Config(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=shared, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=32768,
    )  # fmt: skip


def shape_of(size: str, adapt: Callable[[Any], None] | None = None) -> Shape:
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config_of(size))
        if adapt is not None:
            adapt(model)
    return Shape.of(model)


def counted_and_estimated(
    size: str,
    kind: str,
    tokens: int,
    precision: str,
    devices: int,
    patch: pytest.MonkeyPatch,
    reduction: str = "auto",
    kernels: str = "torch",
) -> tuple[int, int]:
    """The peak of a step by its operations, and the estimate without the context of CUDA, in bytes."""
    trainer = replace(
        GPU, precision=precision, devices=devices, activation_checkpointing=kind, pack_length=tokens,
        gradient_reduction=reduction, kernels=kernels,
    )  # fmt: skip
    parts = memory_bytes(shape_of(size), trainer, tokens, {kind: tokens})
    adapt = use_liger if kernels == "liger" else None
    return peak_bytes(config_of(size), trainer, kind, tokens, patch, adapt), sum(parts.values()) - parts["process"]


@pytest.mark.parametrize(("kind", "precision", "devices", "reduction"), thorough_after(2, [
    ("none", "bf16-mixed", 1, "step"), ("selective", "bf16-mixed", 8, "micro_batch"),
    ("selective", "bf16-mixed", 8, "step"), ("full", "bf16-true", 1, "micro_batch"),
    ("1/2 none 1/2 selective", "bf16-mixed", 1, "step"), ("1/4 selective 3/4 full", "bf16-mixed", 8, "micro_batch"),
]))  # fmt: skip
def test_the_estimate_is_what_the_operations_need(
    kind: str, precision: str, devices: int, reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, estimated = counted_and_estimated("small", kind, 2048, precision, devices, monkeypatch, reduction)
    assert estimated == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(("kind", "precision", "lora"), thorough_after(1, [
    ("selective", "bf16-true", LoraConfig(r=8, alpha=32)),
    ("selective", "bf16-mixed", LoraConfig(r=64, alpha=32, dora=True, dropout=0.1)),
    ("none", "bf16-true", LoraConfig(r=8, alpha=32, dora=True)),
    ("none", "bf16-mixed", LoraConfig(r=8, alpha=32, dropout=0.1)),
    ("full", "bf16-true", LoraConfig(r=8, alpha=32)),
]))  # fmt: skip
def test_the_estimate_counts_what_adapters_keep(
    kind: str, precision: str, lora: LoraConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``selective`` kept more than ``none``: the results of the second matrices too. In bfloat16 the inputs and results
    of adapters were float32."""

    def adapt(model: Any) -> None:
        adapters.adapt(model, lora, 0)

    trainer = replace(GPU, precision=precision, activation_checkpointing=kind, pack_length=2048)
    shape = shape_of("small", adapt)
    width, inner, layers, heads, shared, vocabulary, tied = SIZES["small"]
    sizes = ShapeConfig(
        layers=layers, hidden=width, intermediate=inner, heads=heads, kv_heads=shared, vocab=vocabulary, tied=tied
    )
    assert Shape.from_config(sizes, lora) == shape
    parts = memory_bytes(shape, trainer, 2048, {kind: 2048})
    counted = peak_bytes(config_of("small"), trainer, kind, 2048, monkeypatch, adapt)
    assert sum(parts.values()) - parts["process"] == pytest.approx(counted, rel=0.1)


def distilling(size: str, settings: Distillation) -> Callable[[Any, str, ActivationCheckpointing], Objective]:
    """Makes the loss of a student against a teacher of a size."""

    def make(model: Any, _loss: str, checkpointing: ActivationCheckpointing) -> Objective:
        other: Any = AutoModelForCausalLM.from_config(
            config_of(size), attn_implementation=implementation("varlen"), dtype=torch.bfloat16
        )
        teacher = Teacher(other.eval().requires_grad_(False))
        objective = DistillationObjective(model, settings, [lambda: teacher], checkpointing)
        objective.begin_step(0, 1)
        return objective

    return make


@pytest.mark.parametrize(("size", "teacher", "kind", "tokens", "divergence", "top_k", "lora"), [
    ("small", "wide", "full", 2048, "forward_kl", None, True),
    *(pytest.param(*row, marks=pytest.mark.slow) for row in [
        ("small", "small", "none", 2048, "jsd", None, False), ("small", "small", "none", 2048, "reverse_kl", 9, False),
        ("1.5b", "7b", "full", 16384, "forward_kl", None, False), ("7b", "14b", "selective", 4096, "jsd", None, False),
        ("1.5b", "14b", "none", 16384, "forward_kl", None, True), ("small", "7b", "full", 16384, "jsd", None, True),
    ]),
])  # fmt: skip
def test_the_estimate_counts_the_forward_pass_of_a_teacher(
    size: str,
    teacher: str,
    kind: str,
    tokens: int,
    divergence: str,
    top_k: int | None,
    lora: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def adapt(model: Any) -> None:
        if lora:
            adapters.adapt(model, LoraConfig(r=16, alpha=32), 0)

    settings = Distillation(
        name="logit_kd", divergence=divergence, beta=0.5, temperature=1.0, hard_weight=0.0, top_k=top_k
    )
    trainer = replace(GPU, activation_checkpointing=kind, pack_length=tokens)
    alone = shape_of(size, adapt)
    shape = alone.taught_by(shape_of(teacher), settings, 64)
    parts = memory_bytes(shape, trainer, tokens, {kind: tokens})
    make = distilling(teacher, settings)
    counted = peak_bytes(config_of(size), trainer, kind, tokens, monkeypatch, adapt, make)
    estimated = sum(parts.values()) - parts["process"]
    print(f"| {size}, {teacher} | {kind} | {tokens:,} | {counted / GIB:.1f} | {estimated / GIB:.1f} |")
    assert estimated == pytest.approx(counted, rel=0.1)
    if teacher == "wide":
        without = sum(memory_bytes(alone, trainer, tokens, {kind: tokens}).values()) + parts["teacher"]
        assert without < 0.8 * sum(parts.values()), "a case in which it counts"


def test_answers_of_the_student_need_whole_weights_and_a_cache() -> None:
    sampling = SamplingConfig(max_tokens=4096)
    settings = Distillation(
        name="on_policy", divergence="reverse_kl", beta=None, temperature=1.0, hard_weight=0.0, top_k=None,
        sampling=sampling, round_steps=8,
    )  # fmt: skip
    trainer, student = replace(GPU, devices=8, pack_length=512), qwen7b()
    shape = student.taught_by(student, settings, 64, prompt_tokens=512)
    parts = memory_bytes(shape, trainer, 512, {"full": 512})
    assert parts["gathered weights"] == parts["teacher"] == 2 * student.weights
    cached = 64 * (4096 + 512) * 2 * 512 * 28 * 2  # rows x tokens x keys and values x their width x layers x bytes
    assert cached < parts["cache of answers"] < 1.5 * cached
    few = student.taught_by(student, replace(settings, sampling=replace(sampling, max_tokens=8)), 1)
    long = replace(trainer, pack_length=65536, activation_checkpointing="none")
    assert "cache of answers" not in memory_bytes(few, long, 65536, {"none": 65536}), "the larger of both moments"
    alone = replace(trainer, quantize="nf4", devices=1)
    assert memory_bytes(shape, alone, 512, {"full": 512})["gathered weights"] == 0


def test_ligers_kernels_keep_less() -> None:
    """What FakeTensor counts (the slow test below): the inputs of norms and gated MLPs alone."""
    shape, tokens = qwen7b(), 16384
    for kind, fewer in (("none", 4 * 3584 + 18944), ("selective", 0), ("full", 0)):
        trainer = replace(GPU, activation_checkpointing=kind)
        kept = [
            memory_bytes(replace(shape, num_layers=layers), replace(trainer, kernels=name), tokens)["activations"]
            for name in ("torch", "liger")
            for layers in (28, 56)
        ]
        of_torch, of_liger = kept[1] - kept[0], kept[3] - kept[2]
        assert of_torch - of_liger == pytest.approx(28 * tokens * 2 * fewer, abs=4)
        assert kept[2] < kept[0], "a layer computes less again"


@pytest.mark.slow  # it needs the extra liger and triton, which a CPU build of PyTorch does not bring
def test_the_estimate_of_ligers_kernels() -> None:
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install triton==3.7.1 'micota[liger]'")
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("liger_memory.py"))], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    for name, (counted, estimated) in json.loads(finished.stdout.splitlines()[-1]).items():
        print(f"| {name} | {counted / GIB:.1f} | {estimated / GIB:.1f} |")
        assert estimated == pytest.approx(counted, rel=0.1), name


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kind", "tokens", "precision", "devices"), [
    ("1.5b", "none", 16384, "bf16-mixed", 1), ("1.5b", "selective", 16384, "bf16-mixed", 1),
    ("1.5b", "full", 16384, "bf16-mixed", 1), ("1.5b", "full", 2048, "bf16-mixed", 1),
    ("3b", "selective", 16384, "bf16-mixed", 1), ("3b", "full", 16384, "bf16-mixed", 1),
    ("7b", "full", 16384, "bf16-mixed", 1), ("7b", "full", 16384, "bf16-true", 1),
    ("7b", "selective", 16384, "bf16-mixed", 8), ("7b", "full", 16384, "bf16-mixed", 8),
    ("7b", "full", 4096, "bf16-mixed", 8), ("14b", "selective", 16384, "bf16-mixed", 8),
    ("14b", "full", 16384, "bf16-mixed", 8),
])  # fmt: skip
def test_the_estimate_of_real_sizes(
    size: str, kind: str, tokens: int, precision: str, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of docs/benchmarks.md; ``-s`` prints its rows."""
    counted, estimated = counted_and_estimated(size, kind, tokens, precision, devices, monkeypatch)
    print(
        f"| {size} | {kind} | {tokens:,} | {precision} | {devices} | {counted / GIB:.1f} | {estimated / GIB:.1f} "
        f"| {estimated / counted - 1:+.1%} |"
    )
    assert estimated == pytest.approx(counted, rel=0.1)
