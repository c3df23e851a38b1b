"""What of a configuration of mergekit is accepted, and which models it names: without mergekit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micota import graph
from micota.cli.app import fingerprint_inputs
from micota.config.mergekit import kept, models_in, reference, with_models
from micota.errors import ConfigError
from micota.graph import MergekitSpec, SourceSpec

Composed = Callable[..., Any]
RECIPE = "merge.config.models=[{model: before}, {model: org/math@v2, parameters: {weight: 1, model: mean}}]"


@pytest.mark.parametrize(("value", "expected"), [
    ("after", ("after", None)), ("org/name@main", ("org/name", "main")), ("./a+b@c", ("./a+b@c", None)),
    ({"model": {"path": "/x/a+b"}}, ("/x/a+b", None)), ({"path": "a/b", "revision": "v1"}, ("a/b", "v1")),
    ("bundled:ta", ("bundled:ta", None)),
])  # fmt: skip
def test_a_model_is_a_name_a_folder_or_a_hub_id(value: Any, expected: tuple[str, str | None]) -> None:
    assert reference(value) == expected


@pytest.mark.parametrize("value", ["org/name+org/lora", "", 3, {"model": {"path": 3}}, {"lora": "a"}, "a@b@c", None])
def test_another_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="accepted: before, after, pretrained"):
        reference(value)


def test_models_are_found_wherever_they_stand() -> None:
    sliced = {
        "base_model": "pretrained", "parameters": {"model": 1},
        "slices": [{"sources": [{"model": "after", "layer_range": [0, 2]}, {"model": "a/b", "layer_range": [0, 2]}]}],
    }  # fmt: skip
    assert models_in(sliced, True) == [("pretrained", None), ("after", None), ("a/b", None)]
    changed = with_models(sliced, str.upper)
    assert changed["slices"][0]["sources"][1] == {"model": "A/B", "layer_range": [0, 2]}
    assert changed["parameters"] == {"model": 1} and changed["base_model"] == "PRETRAINED"
    by_module = {"modules": {"text": {"models": [{"model": "x/y"}]}}}
    assert models_in(by_module, False) == [("x/y", None)]
    assert kept(by_module, models_in(by_module, False)) == ("x/y", None)


@pytest.mark.parametrize(("overrides", "words"), [
    (["merge.config.merge_method=null"], "config.merge_method is missing"),
    (["merge.config.tokenizer_source=union"], "tokenizer_source=union cuts the rows that pad the embeddings"),
    (["merge.config.tokenizer_source=a/b"], "tokenizer_source='a/b' is none of the models; accepted: before, after"),
    (["merge.config.tokenizer={source: union}"], "config.tokenizer=.*use tokenizer_source"),
    (["merge.config.chat_template=auto"], "config.chat_template='auto'; the merge keeps the template"),
    (["merge.config.base_model=a+b"], "names the model 'a.b'; a LoRA adapter is named by its folder alone"),
    (["merge.config.base_model=pretrained"], "names pretrained, and there is none"),
    (["merge.target_length_ratio=0.5"], "target_length_ratio=0.5 with method=mergekit: calibration merges in memory"),
    (["merge=ties", "merge.config.merge_method=ties"], "method=ties, which does not read it; accepted: merge=mergekit"),
])  # fmt: skip
def test_a_wrong_configuration_is_refused_in_one_line(composed: Composed, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        composed("merge", "merge=mergekit", *overrides)
    assert "\n" not in str(caught.value)


def test_a_sweep_in_memory_is_refused(composed: Composed) -> None:
    with pytest.raises(ConfigError, match="method=mergekit cannot be measured in a sweep"):
        graph.merge_sweep(composed("merge", "merge=mergekit"))


def test_the_models_of_a_configuration_are_inputs(composed: Composed, tmp_path: Path) -> None:
    folder = tmp_path / "a+b@c"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    recipe = f"{RECIPE[:-1]}, {{model: {folder}}}]"
    config = composed("merge", "merge=mergekit", recipe, "merge.base.path=a/base", "merge.tuned.path=a/t")
    fingerprint_inputs(config)
    node = graph.merged(config)
    assert isinstance(node.spec, MergekitSpec)
    specs = {label: child.spec for label, child in node.inputs.items()}
    assert all(isinstance(spec, SourceSpec) for spec in specs.values())
    assert {label: (spec.path, spec.revision) for label, spec in specs.items()} == {
        "tuned": ("a/base", None), "model1": ("org/math", "v2"), "model2": (str(folder), None),
    }  # fmt: skip
    assert specs["model2"].fingerprint and not specs["model1"].fingerprint
    assert [item["model"] for item in node.spec.config["models"]] == ["tuned", "model1", "model2"]
    assert node.spec.config["models"][1]["parameters"] == {"weight": 1, "model": "mean"}


def test_keys_follow_the_configuration_and_nothing_that_it_does_not_read(composed: Composed) -> None:
    def key(*overrides: str) -> str:
        return graph.merged(composed("merge", "merge=mergekit", *overrides)).key

    first = key()
    assert key("merge.weight=0.1", "merge.density=0.3", "merge.dtype=float32") == first
    others = [
        key("merge.config.merge_method=karcher"), key("merge.config.parameters.weight=0.3"), key("seed=1"),
        key("merge.config.tokenizer_source=before"), key("merge.tuned.path=a/b"), key("merge.config.dtype=float32"),
    ]  # fmt: skip
    assert len({first, *others}) == 7
