"""Weights by layer, by blocks and by activations, as the ordinary merge takes them."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from micota.merging.activations import cut, information, weights_by_layer
from micota.merging.layers import as_override, by_layer, layers, mean_weight, num_blocks, of_blocks
from micota.merging.plan import value_at

NAMES = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.up_proj.weight" for i in range(12)), "model.norm.weight"]


def values(setting: list[dict[str, object]], names: list[str] = NAMES) -> list[float]:
    return [value_at(setting, name, 0.0) for name in names]


def test_blocks_hold_neighbouring_layers_and_the_rest_has_the_last_weight() -> None:
    assert num_blocks(NAMES, 4) == 5 and num_blocks(NAMES, 40) == 13
    assert values(of_blocks(NAMES, [0.1, 0.2, 0.3, 0.4, 0.9])) == [
        0.9, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.4, 0.4, 0.4, 0.9
    ]  # fmt: skip
    each = [index / 100 for index in range(12)]
    assert values(of_blocks(NAMES, [*each, 0.5])) == [0.5, *each, 0.5], "layer 1 is not layer 11"


def test_a_stack_of_other_names_has_the_blocks_of_its_depth() -> None:
    names = [*NAMES, "vision.h.0.w", "vision.h.1.w"]
    assert layers(names)["vision.h.1."] == 1.0
    assert values(of_blocks(names, [0.1, 0.9, 0.5]), ["vision.h.0.w", "vision.h.1.w"]) == [0.1, 0.9]


def test_a_setting_by_layer_is_read_back_from_the_command_line() -> None:
    setting = by_layer({"model.layers.0.": 0.25, "model.layers.1.": 0.5}, 0.4)
    override = OverridesParser.create().parse_override(f"merge.weight={as_override(setting)}")
    assert override.value() == setting and mean_weight(setting) == 0.375
    assert as_override(0.5) == "0.5" and mean_weight(0.5) == 0.5


def test_information_is_that_of_correlated_gaussian_units() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(200_000, 2, generator=generator) for _ in range(2))
    r = torch.tensor([0.6, 0.9])
    y = 3 * (r * x + (1 - r**2).sqrt() * noise) + 7  # scale and mean share nothing
    assert information(x, y) == pytest.approx(float(-0.5 * torch.log(1 - r**2).mean()), rel=0.01)
    assert information(x, noise) == pytest.approx(0, abs=1e-4)
    assert information(x, x) > 9 and math.isfinite(information(x, x))
    assert information(torch.ones(5, 2), torch.ones(5, 2)) == information(x, x), "a unit that does not vary"


def test_layers_that_sft_changed_little_get_less_and_the_mean_stays() -> None:
    shared = {"model.layers.0.": 2.0, "model.layers.1.": 1.0, "model.layers.2.": 0.1}
    setting = weights_by_layer(shared, 0.4)
    first, second, third = (item["value"] for item in setting[:-1])
    assert first < second < third and mean_weight(setting) == pytest.approx(0.4, abs=1e-4)
    assert setting[-1] == {"value": 0.4}
    assert max(item["value"] for item in weights_by_layer(shared, 0.9)) == 1.0
    assert max(item["value"] for item in weights_by_layer(shared, 1.5)) <= 1.5
    assert [item["value"] for item in weights_by_layer(dict.fromkeys(shared, 3.0), 0.5)] == [0.5] * 4


def test_sequences_are_cut_at_a_number_of_tokens() -> None:
    assert cut([[1, 2, 3], [4, 5], [6]], 4) == [[1, 2, 3], [4]]
