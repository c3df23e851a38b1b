from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from packed_models import FAMILIES, learn, model_of
from transformers import LlamaConfig
from transformers.models.auto import AutoModelForCausalLM

from micota.errors import ConfigError
from micota.sft import compiling
from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.attention import implementation
from micota.sft.losses import Objective
from micota.sft.packing import Tokens, borders, collate


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    yield
    torch.compiler.reset()


class Graphs:
    """A backend of the compiler that counts graphs, and runs their operations as they are."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, graph: Any, _inputs: Any) -> Callable[..., Any]:
        self.number += 1
        forward: Callable[..., Any] = graph.forward
        return forward


@pytest.mark.parametrize("kind", ["none", "full"])
def test_compiled_layers_give_the_same_gradients(kind: str) -> None:
    for family in FAMILIES if kind == "none" else ("qwen2",):
        loss, expected, _ = learn(model_of(family, "sequences"))
        model, graphs = model_of(family, "sequences"), Graphs()
        compiling.compile_layers(model, graphs)
        value, grads, _ = learn(model, kind)
        assert graphs.number >= 2, "before and after attention"
        torch.testing.assert_close(value, loss)
        assert grads.keys() == expected.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-5)


def test_other_numbers_and_lengths_of_sequences_compile_nothing_again() -> None:
    model, graphs = model_of("qwen2", "sequences"), Graphs()
    compiling.compile_layers(model, graphs)
    objective = Objective(model, checkpointing=ActivationCheckpointing(model, {"selective": 1000}, compiled=True))
    assert not any(layer.gradient_checkpointing for layer in model.model.layers), "the compiler itself does it"
    generator, numbers = random.Random(0), set()
    for _ in range(8):
        count = generator.randrange(1, 6)
        batch = collate([Tokens(ids=[3] * generator.randrange(5, 40), num_prompt=2) for _ in range(count)], 240)
        objective(batch, borders(batch["position_ids"]), 10.0).backward()
        numbers.add(graphs.number)
    assert len(numbers) == 1, "all of them with the first micro-batch, of both layers"


def test_nothing_is_compiled_for_generation() -> None:
    model, graphs = model_of("qwen2", "sequences"), Graphs()
    compiling.compile_layers(model, graphs)
    model.eval().set_attn_implementation("sdpa")
    model.generate(torch.ones(1, 4, dtype=torch.long), max_new_tokens=3)
    assert graphs.number == 0


@pytest.mark.parametrize(("device", "missing"), [("cuda", "the package triton"), ("cpu", "a C.. compiler")])
def test_what_the_compiler_needs_is_checked_first(device: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=f"trainer.compile=true needs {missing}"):
        compiling.check(device)


@pytest.mark.slow
def test_a_compiled_layer_keeps_what_the_estimate_counts_for_selective() -> None:
    size, inner, tokens = 64, 160, 1000
    kept = []
    for number in (1, 2):
        config = LlamaConfig(hidden_size=size, intermediate_size=inner, num_hidden_layers=number, vocab_size=130,
                             num_attention_heads=4)  # fmt: skip
        model: Any = AutoModelForCausalLM.from_config(
            config, attn_implementation=implementation("sequences"), dtype=torch.bfloat16
        )
        compiling.compile_layers(model.train(), "aot_eager_decomp_partition")  # the partitioner of inductor
        kept.append(bytes_kept(model, tokens))
    # Of a layer (micota.sft.activations): 3 hidden + 2 inner + 2 attention + 2 key_value, in bfloat16; a float32
    # number of each token for two norms and for each head; and the copy that joins the outputs of this CPU kernel.
    expected = 2 * (3 * size + 2 * inner + 2 * size + 2 * size) + 4 * (2 + 4) + 2 * size
    assert (kept[1] - kept[0]) / tokens == pytest.approx(expected, rel=0.02)


def bytes_kept(model: Any, tokens: int) -> int:
    """Bytes of tensors, without weights, between the forward and the backward pass over one sequence."""
    weights, kept = {weight.untyped_storage().data_ptr() for weight in model.parameters()}, {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = collate([Tokens(ids=[3] * tokens, num_prompt=2)], tokens)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = Objective(model)(batch, borders(batch["position_ids"]), 10.0)
    loss.backward()
    return sum(kept.values())
