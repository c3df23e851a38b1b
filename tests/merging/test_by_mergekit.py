"""Merges by mergekit through our checks: its weights, our tokenizer, and one line where it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from toy_models import ASK, family, model_of, tensors
from transformers import AutoTokenizer

from micota.errors import ConfigError, ModelError, SourceError
from micota.export import export
from micota.graph import MergekitSpec
from micota.merging import mergekit
from micota.merging.mergekit import check_configuration, merge_by_mergekit

LABELS = ("before", "tuned", "pretrained")
STACK = [{"sources": [{"model": model, "layer_range": [0, 2]}]} for model in ("before", "tuned")]


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders with the characters at which mergekit splits names."""
    return family(tmp_path_factory.mktemp("a+b@c"), "llama", tied=False)


def merge(paths: Sequence[Path], folder: Path, seed: int = 0, **config: Any) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    locations = {label: (str(path), None) for label, path in zip(LABELS, paths, strict=False)}
    return merge_by_mergekit(MergekitSpec(config=config, seed=seed), locations, folder, ASK)


def directly(models: Sequence[Path], folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The same merge by mergekit alone."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    named = [{"model": {"model": {"path": str(path)}}, "parameters": {"weight": 0.5}} for path in models[:2]]
    based = {"base_model": {"model": {"path": str(models[config.pop("base")])}}} if "base" in config else {}
    whole = {"models": named, "parameters": {"t": 0.5}, **based, **config}
    options = MergeOptions(random_seed=0, quiet=True, copy_tokenizer=False, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(whole), str(folder), options=options)
    return tensors(folder)


@pytest.mark.parametrize(("method", "base"), [
    ("karcher", None), ("nuslerp", None), ("model_stock", 2), ("slerp", 0), ("sce", 2), ("della", 2),
])  # fmt: skip
def test_the_weights_are_those_of_mergekit(llamas: list[Path], tmp_path: Path, method: str, base: int | None) -> None:
    more = {"base": base} if base is not None else {}
    shared = {"dtype": "float32", "parameters": {"density": 0.7, "select_topk": 0.6, "t": 0.5}}
    merge(llamas, tmp_path / "ours", merge_method=method, **shared)
    expected = directly(llamas, tmp_path / "direct", {"merge_method": method, **shared, **more})
    merged = tensors(tmp_path / "ours")
    assert merged.keys() == expected.keys() and all(torch.equal(merged[name], expected[name]) for name in merged)


def test_linear_is_the_mean(llamas: list[Path], tmp_path: Path) -> None:
    metrics = merge(llamas[:2], tmp_path, merge_method="linear", dtype="float32")
    before, after, merged = (tensors(path) for path in (*llamas[:2], tmp_path))
    for name, values in merged.items():
        torch.testing.assert_close(values.double(), (before[name].double() + after[name].double()) / 2)
    delta = torch.cat([(after[name] - before[name]).flatten() for name in merged])
    assert metrics["task_vector_norm"] == pytest.approx(float(delta.norm()), rel=1e-5)
    assert metrics["merged_vector_norm"] == pytest.approx(float(delta.norm()) / 2, rel=1e-5)
    report = json.loads((tmp_path / "merge.json").read_text())
    assert report["mergekit"] == version("mergekit") and report["recipe"]["config"]["merge_method"] == "linear"
    assert isinstance(report["sample"], str) and {"layer 0", "layer 2"} <= report["layers"].keys()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(llamas[1]).chat_template  # type: ignore[no-untyped-call]


def test_weights_that_are_not_finite_are_refused_before_mergekit_runs(llamas: list[Path], tmp_path: Path) -> None:
    """mergekit writes them, and the message after it would blame the weights of the merge."""
    damaged = Path(shutil.copytree(llamas[1], tmp_path / "damaged"))
    values = tensors(damaged)
    values["model.norm.weight"][2] = torch.nan
    save_file(values, damaged / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight of .*/damaged/model\.safetensors has 1 values"):
        merge([llamas[0], damaged], tmp_path / "merged", merge_method="linear")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma2"])
def test_every_method_of_mergekit_runs(tmp_path: Path, architecture: str) -> None:
    """Slow, since every method merges, loads and samples from a model."""
    from mergekit.merge_methods.registry import registered_methods

    models = family(tmp_path, architecture, tied=architecture != "llama")
    for method in registered_methods():
        name = method.spec.name
        one = {"models": [{"model": "tuned"}]} if name == "passthrough" else {}
        merge(models, tmp_path / name, merge_method=name, **one)
        assert (tmp_path / name / "merge.json").exists()


def test_slices_of_layers_make_a_deeper_model(llamas: list[Path], tmp_path: Path) -> None:
    merge(llamas[:2], tmp_path, merge_method="passthrough", slices=STACK)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 4
    merged, after = tensors(tmp_path), tensors(llamas[1])
    assert torch.equal(merged["model.layers.3.mlp.up_proj.weight"], after["model.layers.1.mlp.up_proj.weight"])


def test_passthrough_that_transformers_refuses_is_one_line(tmp_path: Path) -> None:
    models = family(tmp_path, "qwen2", tied=True, count=2)
    with pytest.raises(ConfigError, match=r"merge_method=passthrough \(it changes the number of layers") as caught:
        merge(models, tmp_path / "merged", merge_method="passthrough", slices=STACK)
    assert "\n" not in str(caught.value)


def test_the_seed_decides_random_masks(llamas: list[Path], tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        merge(llamas[:2], tmp_path / name, seed, merge_method="dare_linear", parameters={"density": 0.5})
    a, b, c = (tensors(tmp_path / name)["lm_head.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_rows_of_tokens_that_differ_are_those_of_the_kept_model(llamas: list[Path], tmp_path: Path) -> None:
    """mergekit averages rows of different tokens, and refuses embeddings of other lengths."""
    tokenizer: Any = AutoTokenizer.from_pretrained(llamas[1])
    first = len(tokenizer)
    for folder, token, rows in (("one", "<|User|>", 300), ("two", "<|im_start|>", 320)):
        other: Any = AutoTokenizer.from_pretrained(llamas[1])
        other.add_tokens([token])
        torch.manual_seed(rows)
        export(model_of("llama", tied=False, vocab_size=rows), other, tmp_path / folder)
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "merged", merge_method="linear")
    old, new, merged = (tensors(tmp_path / name)["model.embed_tokens.weight"] for name in ("one", "two", "merged"))
    assert torch.equal(merged[first], new[first]) and torch.equal(merged[300:], new[300:])
    torch.testing.assert_close(merged[:first], (old[:first] + new[:first]) / 2)


@pytest.mark.parametrize(("config", "words"), [
    ({"merge_method": "lineal"}, "no method of this name; accepted: .*, linear, "),
    ({"merge_method": "linear", "modells": []}, "no key modells; accepted: modules, slices, models"),
    ({"merge_method": "model_stock"}, "it needs 3 models and there are 2; pretrained is a third"),
    ({"merge_method": "passthrough"}, "it takes 1 model, and there are before and after"),
    ({"merge_method": "linear", "models": [{"model": "before", "parameters": 3}]}, "Input should be a valid diction"),
    ({"merge_method": "linear", "models": [{"model": "before"}], "slices": STACK}, "Exactly one of 'models', 'slices'"),
])  # fmt: skip
def test_what_mergekit_refuses_is_one_line_before_the_models_exist(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check_configuration(MergekitSpec(config=config, seed=0), ["before", "tuned"])
    assert "\n" not in str(caught.value) and f"mergekit {version('mergekit')}" in str(caught.value)


def test_without_mergekit_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mergekit, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs the package mergekit, which is not installed; install micota\[mergekit\]"
    ):
        check_configuration(MergekitSpec(config={"merge_method": "linear"}, seed=0), ["before", "tuned"])


def test_a_failure_of_mergekit_while_it_merges_is_one_line(llamas: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Missing required parameter weight") as caught:
        merge(llamas[:2], tmp_path, merge_method="linear", models=[{"model": "before"}, {"model": "tuned"}])
    assert "\n" not in str(caught.value)


def test_a_missing_model_is_named(llamas: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such folder"):
        merge([llamas[0], tmp_path / "none"], tmp_path / "m", merge_method="linear")
