from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from packed_models import FAMILIES, learn, model_of
from torch.utils._python_dispatch import TorchDispatchMode

from micota.sft.activation_checkpointing import ActivationCheckpointing
from micota.sft.kinds import ORDER, mixture_of


@pytest.mark.parametrize("kernel", ["sequences", "sdpa", "eager"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_results_are_the_same_to_the_bit(family: str, kernel: str) -> None:
    loss, expected, kept = learn(model_of(family, kernel))
    held_by = {"none": kept}
    for kind in ("1/2 none 1/2 selective", "selective", "1/2 selective 1/2 full", "full"):
        value, grads, held = learn(model_of(family, kernel), kind)
        assert torch.equal(value, loss) and grads.keys() == expected.keys()
        assert all(torch.equal(grads[name], expected[name]) for name in expected)
        held_by[kind] = held
    assert [*held_by.values()] == sorted(held_by.values(), reverse=True) and held_by["selective"] < 0.9 * kept


class Counter(TorchDispatchMode):
    """How often operators are really called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_products_and_attention_are_not_computed_again() -> None:
    calls = {}
    for kind in ("none", "selective", "full"):
        with Counter() as counter:
            learn(model_of("qwen2", "sequences"), kind)
        calls[kind] = counter.calls
    for name in ("aten.mm.default", "aten.addmm.default", "aten._scaled_dot_product_flash_attention_for_cpu.default"):
        assert calls["full"][name] > calls["selective"][name] == calls["none"][name] > 0
    assert calls["selective"]["aten.silu.default"] == 2 * calls["none"]["aten.silu.default"]


def test_a_micro_batch_has_the_first_kind_that_its_size_allows() -> None:
    model = model_of("qwen2", "sequences")
    checkpointing = ActivationCheckpointing(model, {"none": 40, "selective": 60, "full": 100})
    kinds = {}
    for size in (101, 40, 61, 41):  # the kind goes back and forth; what is larger than all has the last
        checkpointing(size)
        [kind] = {_kind(layer) for layer in model.model.layers}
        kinds[size] = kind
    assert kinds == {40: "none", 41: "selective", 61: "full", 101: "full"}


def test_the_first_layers_of_a_mixture_keep_less() -> None:
    model = model_of("qwen2", "sequences")
    num_layers = len(model.model.layers)
    for mixture in (mixture_of(name) for name in ORDER):
        checkpointing = ActivationCheckpointing(model, {"none": 1, str(mixture): 100})
        checkpointing(50)
        num_heavy = mixture.num_heavy(num_layers)
        expected = [mixture.heavy] * num_heavy + [mixture.light] * (num_layers - num_heavy)
        assert [_kind(layer) for layer in model.model.layers] == expected
        checkpointing(1)
        assert {_kind(layer) for layer in model.model.layers} == {"none"}


def _kind(layer: Any) -> str:
    if not layer.gradient_checkpointing:
        return "none"
    return "selective" if "context_fn" in layer._gradient_checkpointing_func.keywords else "full"


def test_nothing_is_set_up_where_nothing_is_computed_again() -> None:
    model = model_of("qwen2", "sequences")
    ActivationCheckpointing(model, {"none": 10})(20)
    assert not any(layer.gradient_checkpointing for layer in model.model.layers)
