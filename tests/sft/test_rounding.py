from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from micota.config import SftConfig
from micota.config.optimizers import OPTIMIZERS
from micota.sft.optimizers import adamw
from micota.sft.rounding import RoundedAdamW, rounded

START = torch.randn(64, 72, generator=torch.Generator().manual_seed(0)) * 0.02  # as weights of a language model


Makes = Callable[[torch.nn.Parameter], torch.optim.Optimizer]


def trained(optimizer_of: Makes, dtype: torch.dtype, steps: int = 1_000) -> tuple[float, float]:
    """The share of weights that ever move at a learning rate of 1e-5, and the mean distance that they move."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(START.to(dtype, copy=True))
    optimizer, generator = optimizer_of(weight), torch.Generator().manual_seed(1)
    for step in range(steps):
        scale = 1e-2 if step < 20 else 1e-4  # gradients fall after the first steps of fine-tuning
        weight.grad = (scale * (torch.randn(START.shape, generator=generator) + 0.5)).to(dtype)
        optimizer.step()
    moved = weight.detach().float() - START.to(dtype).float()
    return float((moved != 0).float().mean()), float(moved.mean())


def plain_adamw(weight: torch.nn.Parameter) -> torch.optim.Optimizer:
    return torch.optim.AdamW([weight], lr=1e-5, weight_decay=0.0)


@pytest.mark.parametrize("kind", ["adamw", "adamw_8bit"])
def test_bfloat16_weights_move_as_float32_weights(kind: str) -> None:
    """Those of AdamW with bfloat16 moments and rounding to the nearest stay where they are."""
    if OPTIMIZERS[kind].package is not None:
        pytest.importorskip(OPTIMIZERS[kind].package)
    sft = SftConfig(learning_rate=1e-5, batch_size=1, epochs=1, weight_decay=0.0, optimizer=kind)
    share, distance = trained(plain_adamw, torch.float32)
    lost, _ = trained(plain_adamw, torch.bfloat16)
    kept, rounded_distance = trained(lambda weight: adamw([weight], sft), torch.bfloat16)
    assert share > 0.99 and lost < 0.3 and kept > 0.95
    assert rounded_distance == pytest.approx(distance, rel=0.05)


def test_float32_weights_are_those_of_adamw() -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(7, 5)) for _ in range(3)]
    others = copy.deepcopy(weights)
    for parameters, kind in ((weights, torch.optim.AdamW), (others, RoundedAdamW)):
        optimizer = kind(parameters, lr=1e-2, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            for weight in parameters:
                weight.grad = torch.randn(7, 5, generator=generator)
            optimizer.step()
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(other, weight)


def test_rounding_is_to_neighbours_and_right_in_the_mean() -> None:
    torch.manual_seed(0)
    values = torch.full((100_000,), 1 + 0.25 * 2**-7)  # a quarter of the way to the next number
    seen = rounded(values, torch.bfloat16).float()
    assert set(seen.tolist()) == {1.0, 1 + 2**-7}
    assert float((seen > 1).float().mean()) == pytest.approx(0.25, abs=0.01)
    exact = torch.tensor([0.0, -1.5, torch.inf, -torch.inf])
    assert torch.equal(rounded(exact, torch.bfloat16).float(), exact)


def test_moments_stay_float32_over_a_checkpoint() -> None:
    def ahead(optimizer: RoundedAdamW, weight: torch.nn.Parameter, steps: int) -> None:
        for step in range(steps):
            torch.manual_seed(step)
            weight.grad = torch.randn(11).bfloat16()
            optimizer.step()

    weight = torch.nn.Parameter(torch.ones(11).bfloat16())
    optimizer = RoundedAdamW([weight], lr=1e-2)
    ahead(optimizer, weight, 3)
    again = torch.nn.Parameter(weight.detach().clone())
    resumed = RoundedAdamW([again], lr=1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert {resumed.state[again][name].dtype for name in ("exp_avg", "exp_avg_sq")} == {torch.float32}
    ahead(optimizer, weight, 3)
    ahead(resumed, again, 3)
    assert torch.equal(weight, again)
