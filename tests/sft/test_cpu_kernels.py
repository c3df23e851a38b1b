from __future__ import annotations

import pytest
import torch
from packed_models import FAMILIES, SHAPE, learn, model_of, sequences
from transformers import Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from micota.config import LoraConfig, TrainerConfig
from micota.sft.cpu_kernels import use_cpu_kernels
from micota.sft.lora import adapt
from micota.sft.losses import Objective
from micota.sft.packing import borders, collate

CPU = TrainerConfig(name="cpu", accelerator="cpu", precision="32-true")
GPU = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-mixed")


@pytest.mark.parametrize("kind", ["none", "selective", "full"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_losses_are_the_same_to_the_bit_and_gradients_within_rounding(family: str, kind: str) -> None:
    loss, expected, kept = learn(model_of(family, "sequences"), kind)
    model = model_of(family, "sequences")
    use_cpu_kernels(model, CPU)
    value, grads, held = learn(model, kind)
    assert torch.equal(value, loss) and grads.keys() == expected.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)
    changed = any("forward" in vars(module) for module in model.modules())
    assert changed == (family != "gemma2")  # whose norms and activation are others
    if changed and kind == "none":
        assert held < 0.75 * kept


@pytest.mark.parametrize("tied", [False, True])
def test_a_table_that_is_also_the_output_head_sums_both_gradients(tied: bool) -> None:
    results = []
    for use_kernels in (False, True):
        torch.manual_seed(0)
        config = Qwen2Config(**SHAPE, tie_word_embeddings=tied)
        model = AutoModelForCausalLM.from_config(config).train()
        if use_kernels:
            use_cpu_kernels(model, CPU)
        for _ in range(2):  # micro-batches
            batch = collate(sequences(), 96)
            Objective(model)(batch, borders(batch["position_ids"]), 100.0).backward()
        results.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, grad in results[0].items():
        torch.testing.assert_close(results[1][name], grad, rtol=1e-4, atol=1e-6)
    assert results[0]["model.embed_tokens.weight"][0].abs().sum() == 0 or tied  # of the padding token


def test_gradients_are_those_of_finite_differences() -> None:
    from micota.sft.cpu_kernels import _GatedDown, _RmsNorm

    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    gate, up, down = (torch.randn(*size, dtype=torch.float64) for size in ((2, 3, 4), (2, 3, 4), (5, 4)))
    for tensor in (x, weight, gate, up, down):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: _RmsNorm.apply(a, b, 1e-6), (x, weight))
    assert torch.autograd.gradcheck(_GatedDown.apply, (gate, up, down))


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "down_proj"]])
def test_adapters_learn_the_same(targets: list[str]) -> None:
    """Frozen weights get no gradient, and a product that has an adapter on it is left as it is."""
    results = []
    for use_kernels in (False, True):
        model = model_of("qwen2", "sequences")
        adapt(model, LoraConfig(r=2, alpha=4, targets=targets), seed=0)
        if use_kernels:
            use_cpu_kernels(model, CPU)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.1)
        results.append(learn(model))
    (loss, expected, _), (value, grads, _) = results
    assert torch.equal(value, loss) and grads.keys() == expected.keys() and all("lora" in name for name in grads)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


def test_nothing_changes_where_kernels_are_fused() -> None:
    model = model_of("qwen2", "sequences")
    use_cpu_kernels(model, GPU)
    assert not any("forward" in vars(module) for module in model.modules())
