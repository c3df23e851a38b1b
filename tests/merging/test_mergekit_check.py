"""Configurations of mergekit that are wrong, refused before any model exists. mergekit finds them while it merges, or
never."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig, Qwen2Config

from micota.config.mergekit import faults
from micota.errors import ConfigError
from micota.graph import MergekitSpec
from micota.merging.mergekit import check_configuration

pytest.importorskip("mergekit")
BEFORE, AFTER = ({"model": label, "parameters": {"weight": 0.5}} for label in ("before", "tuned"))


def check(config: dict[str, Any], settings: Any = None) -> None:
    check_configuration(MergekitSpec(config=config, seed=0), ["before", "pretrained", "tuned"], settings)


def weighted(weight: Any, method: str = "linear", **parameters: Any) -> dict[str, Any]:
    base = {} if method == "linear" else {"base_model": "before"}
    return {"merge_method": method, **base, "parameters": {"weight": weight, **parameters}}


def stacked(*ranges: list[int]) -> dict[str, Any]:
    return {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": "tuned", "layer_range": each}]} for each in ranges],
    }


def test_every_method_passes_with_what_it_needs() -> None:
    from mergekit.merge_methods.registry import registered_methods

    for method in registered_methods():
        one = {"models": [{"model": "tuned"}]} if method.spec.name == "passthrough" else {}
        check({"merge_method": method.spec.name, **one})


@pytest.mark.parametrize("config", [
    weighted([{"filter": "mlp", "value": 0.3}, {"filter": "self_attn", "value": [0.2, 1]}, {"value": 0.1}]),
    weighted([0, 0.5, 1], "ties", density=0.5, int8_mask=True, normalize=False),
    {"merge_method": "linear", "modules": {"default": {"models": [BEFORE, AFTER]}}},
    {"merge_method": "linear", "parameters": {"weight": 1, "density": 0.5}},  # of another method
    {"merge_method": "linear", "models": [BEFORE, AFTER], "dtype": "float64", "out_dtype": "bfloat16"},
])  # fmt: skip
def test_configurations_that_mergekit_merges_pass(config: dict[str, Any]) -> None:
    check(config)


@pytest.mark.parametrize(("config", "words"), [
    (weighted(1, weigth=0.5), r"no parameter weigth; accepted: weight, normalize"),
    ({"merge_method": "linear", "models": [{"model": "before", "paramters": {}}]}, "no key models.0.paramters; accept"),
    ({"merge_method": "linear", "models": [BEFORE, {"model": "tuned"}]}, "Missing required parameter weight for .*tun"),
    (weighted([{"filter": "mlp", "value": 0.5}]), "Missing required parameter weight"),
    (weighted([]), "Missing required parameter weight"),
    (weighted("abc"), "weight='abc'; accepted: float"),
    (weighted([{"filter": "mlp", "value": "50%"}, {"value": 1}]), "weight='50%'; accepted: float"),
    (weighted([0, "a"]), "weight='a'; accepted: float"),
    (weighted(float("nan")), "weight=nan; accepted: a finite number"),
    (weighted(1, "ties", normalize="maybe"), "normalize='maybe'; accepted: bool"),
    (weighted(1, "dare_ties", density=-1), "Expected p_in >= 0"),
    (weighted(1, "della", density=[{"filter": "mlp", "value": 0.99}, {"value": 0.5}]), "Epsilon must be chosen such"),
    ({"merge_method": "linear", "models": [
        {"model": "before", "parameters": {"weight": 1}}, {"model": "tuned", "parameters": {"weight": -1}},
    ]}, "its parameters make values that are not finite: .*'weight': .1.0, -1.0."),
    ({"merge_method": "slerp", "parameters": {"t": 0.5}, "models": [BEFORE, AFTER]}, "requires a base input"),
    ({"merge_method": "slerp", "parameters": {"t": 0.5}, "base_model": "before",
      "models": [BEFORE, AFTER, {"model": "pretrained"}]}, "requires exactly 2 inputs"),
    ({"merge_method": "linear", "models": [BEFORE, BEFORE]}, "Duplicate merge inputs"),
    ({"merge_method": "linear", "models": [BEFORE, AFTER], "dtype": "bf17"}, 'Unimplemented dtype "bf17"'),
    ({"merge_method": "linear", "models": [BEFORE, AFTER], "dtype": "float64"}, "dtype=float64; accepted for the merg"),
    ({"merge_method": ["linear"]}, "no method of this name; accepted: "),
])  # fmt: skip
def test_what_mergekit_would_find_later_or_ignore_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ranges", "words"), [
    ([[0, 9]], r"layer_range=\[0, 9\]; accepted: \[FIRST, END\] within \[0, 3\]"),
    ([[2, 1]], r"layer_range=\[2, 1\]; accepted"), ([[0, 0]], r"layer_range=\[0, 0\]; accepted"),
    ([[-1, 2]], r"layer_range=\[-1, 2\]; accepted"),
])  # fmt: skip
def test_layers_that_the_models_do_not_have_are_refused(ranges: list[list[int]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(stacked(*ranges), LlamaConfig(num_hidden_layers=3))


def test_another_number_of_layers_is_refused_where_mergekit_cannot_write_it() -> None:
    check(stacked([0, 2], [1, 3]), LlamaConfig(num_hidden_layers=3))
    check(stacked([0, 2], [2, 3]), Qwen2Config(num_hidden_layers=3))
    with pytest.raises(ConfigError, match=r"it changes the number of layers, which fails .* 3 layers become 4"):
        check(stacked([0, 2], [1, 3]), Qwen2Config(num_hidden_layers=3))
    uneven = [{"model": "before", "layer_range": [0, 2]}, {"model": "tuned", "layer_range": [0, 3]}]
    config = {"merge_method": "linear", "parameters": {"weight": 1}, "slices": [{"sources": uneven}]}
    with pytest.raises(ConfigError, match="all inputs of a slice need the same number of layers"):
        check(config, LlamaConfig(num_hidden_layers=3))


@pytest.mark.parametrize("models", [["before", "after"], "before"])
def test_models_without_their_key_are_refused(models: Any) -> None:
    (fault,) = faults({"merge_method": "linear", "models": models}, has_pretrained=False)
    assert fault.endswith("accepted: models: [{model: before}, {model: after}]")
