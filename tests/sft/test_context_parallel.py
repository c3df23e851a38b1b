"""Rows whose tokens are divided over processes: the loss and gradients of one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import context_ranks
import pytest
import torch
from context_ranks import TRAINER, learn
from fork_server import _server
from packed_models import FAMILIES
from transformers import LlamaConfig, Phi3Config, Qwen3NextConfig

from micota.config import ShapeConfig, TrainerConfig
from micota.errors import ConfigError
from micota.sft import context_parallel
from micota.sft.data import Steps
from micota.sft.fitting import fewest_devices
from micota.sft.memory import memory_bytes, most_tokens
from micota.sft.packing import Tokens
from micota.sft.shape import Shape

GIB = 2**30


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    context, _ = _server()
    processes = [context.Process(target=context_ranks.rank, args=(number, 2, str(folder))) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{number}.pt", weights_only=False) for number in range(2)]


@pytest.mark.parametrize("kind", ["none", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_one_process(divided: list[Any], family: str, kind: str) -> None:
    """Packed sequences, shared heads of keys, a sliding window and a bound on scores; also computed again."""
    loss, grads = learn(family)
    for result in divided:
        total, others = result["results"][family, kind]
        torch.testing.assert_close(total, loss, rtol=1e-6, atol=1e-6)
        assert others.keys() == grads.keys() and len(grads) > 10
        for name, grad in grads.items():
            torch.testing.assert_close(others[name], grad, rtol=2e-4, atol=2e-6 * float(grad.abs().max() + 1))


def test_an_exchange_gives_each_process_a_slice_of_each(divided: list[Any]) -> None:
    """In bfloat16 too."""
    for rank, result in enumerate(divided):
        expected = torch.stack([torch.arange(4) + 4 * rank + 10 * sender for sender in range(2)])
        assert torch.equal(result["exchanged"], expected.bfloat16())


def test_heads_of_keys_are_repeated_only_as_often_as_needed() -> None:
    for count, heads, parts, expected in (
        (4, 28, 2, [0, 1, 2, 3]), (2, 12, 4, [0, 0, 1, 1]), (3, 6, 2, [0, 0, 1, 1, 2, 2]),
    ):  # fmt: skip
        states = torch.arange(count)[None, :, None, None].expand(1, count, 5, 1)
        assert context_parallel._enough_heads(states, heads, parts)[0, :, 0, 0].tolist() == expected


def test_processes_of_a_group_get_the_same_rows() -> None:
    tokens = [Tokens(ids=[3 + number] * (4 + number), num_prompt=2) for number in range(8)]
    trainer = replace(TRAINER, pack_length=16, devices=4)
    groups = [Steps(tokens, [[*range(8)]], trainer, seed=0, ranks=(rank // 2, 2))[0] for rank in range(4)]
    for left, right in ((0, 1), (2, 3)):
        for one, other in zip(groups[left].micro_batches, groups[right].micro_batches, strict=True):
            assert torch.equal(one["input_ids"], other["input_ids"])
    assert not torch.equal(groups[0].micro_batches[0]["input_ids"], groups[2].micro_batches[0]["input_ids"])


def test_a_device_needs_memory_for_its_part_of_a_row() -> None:
    sizes = ShapeConfig(layers=28, hidden=3584, intermediate=18944, heads=28, kv_heads=4, vocab=152064)
    shape = Shape.from_config(sizes)
    gpu = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-mixed", pack_length=131072, devices=8,
                        activation_checkpointing="full")  # fmt: skip
    alone, four = (memory_bytes(shape, replace(gpu, context_parallel=n), 131072) for n in (1, 4))
    assert four["activations"] == pytest.approx(alone["activations"] / 4, rel=1e-3)
    assert four["weights"] == alone["weights"], "weights are divided over all devices in either case"
    assert sum(alone.values()) > 76 * GIB > sum(four.values())
    assert most_tokens(shape, replace(gpu, context_parallel=4), 131072) == {"full": 32768}
    open_ended = replace(gpu, devices=None)
    assert fewest_devices(shape, open_ended, 131072, 141 * GIB, 8) == 2
    assert fewest_devices(shape, replace(open_ended, context_parallel=4), 131072, 141 * GIB, 8) == 4


@pytest.mark.parametrize(("settings", "size", "kernel", "text"), [
    (LlamaConfig(hidden_size=3584, num_attention_heads=28), 8, "varlen", "=8 does not divide the 28 .* 1, 2, 4, 7"),
    (Qwen3NextConfig(), 2, "sequences", "=2 with layers of linear_attention, which pass a state from"),
    (Phi3Config(rope_parameters={"rope_type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48,
                                 "rope_theta": 1e4}), 2, "varlen", "=2 with rotary embeddings of longrope, which dep"),
    (LlamaConfig(), 2, "flex", "=2 with trainer.attention=flex, .* accepted: trainer.attention=flash_attn"),
])  # fmt: skip
def test_what_cannot_be_divided_is_refused_in_one_line(settings: Any, size: int, kernel: str, text: str) -> None:
    context_parallel.check(settings, kernel, TRAINER)
    with pytest.raises(ConfigError, match=f"^trainer.context_parallel{text}") as caught:
        context_parallel.check(settings, kernel, replace(TRAINER, context_parallel=size))
    assert "\n" not in str(caught.value)


def test_it_divides_the_number_of_devices() -> None:
    [line] = replace(TRAINER, devices=6, context_parallel=4).conflicts()
    assert line == "context_parallel=4 with 6 devices; accepted: a number that divides devices x num_nodes"
    assert not [*replace(TRAINER, devices=8, context_parallel=4).conflicts()]
    [line] = replace(TRAINER, devices=8, context_parallel=4, compile=True).conflicts()
    assert "accepted: compile=false with it" in line
