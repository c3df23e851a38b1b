"""LoRA adapters against peft in float64, and those that are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_models
from random_adapters import random_adapter
from safetensors.torch import load_file, save_file
from toy_models import ASK, model_of, save, spec, tensors
from transformers import BloomConfig, Gemma3Config, GPT2Config

from micota import graph
from micota.checkpoint import Checkpoint
from micota.errors import ConfigError, UserError
from micota.merging.adapter import Adapter
from micota.merging.adapter_settings import read_settings
from micota.merging.merge import merge_models
from micota.merging.models import open_models
from micota.stages.merge_inputs import check_models

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"


def merge(models: list[Path], folder: Path) -> dict[str, float]:
    folder.mkdir(parents=True)
    base, *tuned = ((str(path), None) for path in models)
    return merge_models(spec("linear"), base, tuned, folder, ASK)


def adapted(base: Path, folder: Path, **settings: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """A random adapter by peft, and the tensors of its model with the adapter merged in by peft."""
    wrapped = random_adapter(base, folder / "lora", **settings)
    whole = wrapped if settings.get("alora_invocation_tokens") else wrapped.merge_and_unload()
    return folder / "lora", {name: values.detach().clone() for name, values in whole.state_dict().items()}


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(model_of("qwen2", tied=False), tmp_path_factory.mktemp("model") / "untied")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(model_of("qwen2", tied=True), tmp_path_factory.mktemp("model") / "tied")


@pytest.mark.parametrize("settings", [
    {"target_modules": ["q_proj", "lm_head"]}, {"target_modules": ["lm_head"], "use_rslora": True},
    {"target_modules": ["lm_head", "k_proj"], "bias": "all"},
], ids=["with a projection", "alone", "with biases"])  # fmt: skip
def test_an_adapter_of_the_head_is_applied(untied: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """peft saves the frozen weight of the head beside the adapter; that was taken for the trained one."""
    lora, expected = adapted(untied, tmp_path, **settings)
    with open_models([(str(untied), None), (str(lora), None)], tmp_path / "scratch") as models:
        applied = tensors(models[1].folder)
    assert not torch.equal(applied["lm_head.weight"], tensors(untied)["lm_head.weight"])
    for name, values in applied.items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("settings", "named"), [
    ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ({"init_lora_weights": "olora"}, "init_lora_weights='olora'"),
    ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication="),
    ({"alora_invocation_tokens": [1, 2], "task_type": "CAUSAL_LM"}, "alora_invocation_tokens="),
    ({"use_dora": True}, "use_dora=True"),
    ({"trainable_token_indices": [1, 2]}, "trainable_token_indices="),
])  # fmt: skip
def test_adapters_that_are_not_known_to_be_plain_are_refused(
    untied: Path, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    lora, _ = adapted(untied, tmp_path, **settings)
    with pytest.raises(ConfigError) as caught:
        merge([untied, lora], tmp_path / "merged")
    assert named in str(caught.value) and "accepted: LoRA of linear layers" in str(caught.value)


def test_names_of_an_adapter_whose_parts_stand_in_another_order_are_found(tmp_path: Path) -> None:
    """Gemma 3 is loaded as model.language_model.layers and stored as language_model.model.layers."""
    text = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_config(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4), dtype=torch.float32
    )
    model.save_pretrained(tmp_path / "gemma3")
    from peft import LoraConfig, get_peft_model

    wrapped: Any = get_peft_model(model, LoraConfig(r=4, target_modules=r".*language_model.*\.q_proj"))
    wrapped.peft_config["default"].base_model_name_or_path = str(tmp_path / "gemma3")
    wrapped.save_pretrained(tmp_path / "lora")
    with Checkpoint.open(tmp_path / "gemma3") as checkpoint:
        adapter = Adapter(read_settings(tmp_path / "lora"), checkpoint)
        assert len(adapter.pairs) == 2 and adapter.pairs.keys() <= checkpoint.entries.keys()
        assert all("language_model" in name for name in adapter.pairs)


def applied_to(model: Path, lora: Path, scratch: Path) -> dict[str, torch.Tensor]:
    with open_models([(str(model), None), (str(lora), None)], scratch) as models:
        return tensors(models[1].folder)


@pytest.mark.parametrize("fan_in_fan_out", [True, False])
def test_layers_that_hold_their_weight_transposed_get_the_transposed_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fan_in_fan_out: bool
) -> None:
    """GPT-2 holds W transposed. A square one took the change of another layout; the setting itself does not count."""
    monkeypatch.setitem(toy_models.CONFIGS, "gpt2", GPT2Config)
    torch.manual_seed(0)
    base = save(model_of("gpt2", tied=True), tmp_path / "gpt2")
    lora, expected = adapted(base, tmp_path, target_modules=["c_attn", "attn.c_proj"])
    change(lora, fan_in_fan_out=fan_in_fan_out)
    for name, values in applied_to(base, lora, tmp_path / "scratch").items():
        torch.testing.assert_close(values, expected[f"transformer.{name.removeprefix('transformer.')}"])


@pytest.mark.parametrize(("name", "settings"), [
    ("qwen2", {"target_modules": ["lm_head"]}), ("qwen2", {"modules_to_save": ["lm_head"]}),
    ("qwen2", {"modules_to_save": ["embed_tokens"]}),
    ("bloom", {"target_modules": ["dense"], "modules_to_save": ["word_embeddings"]}),
])  # fmt: skip
def test_one_of_two_tied_embeddings_is_not_changed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any]
) -> None:
    """Also where the files have both: what an adapter adds to the head alone would be lost."""
    monkeypatch.setitem(toy_models.CONFIGS, "bloom", BloomConfig)
    torch.manual_seed(0)
    base = save(model_of(name, tied=True), tmp_path / "tied")
    lora, _ = adapted(base, tmp_path, **settings)
    both = load_file(base / "model.safetensors")
    both["lm_head.weight"] = next(values for key, values in both.items() if "embed" in key).clone()
    save_file(both, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="whose input and output embeddings are tied; accepted: LoRA of linear"):
        applied_to(base, lora, tmp_path / "scratch")


def change(lora: Path, **settings: Any) -> None:
    written = json.loads((lora / SETTINGS).read_text())
    (lora / SETTINGS).write_text(json.dumps(written | settings))


def without(part: str) -> Callable[[Path], None]:
    def damage(lora: Path) -> None:
        weights = load_file(lora / WEIGHTS)
        save_file({name: values for name, values in weights.items() if part not in name}, lora / WEIGHTS)

    return damage


def with_nan(lora: Path) -> None:
    weights = load_file(lora / WEIGHTS)
    weights[min(weights)][0, 0] = float("nan")
    save_file(weights, lora / WEIGHTS)


@pytest.fixture(scope="module")
def plain(untied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapted(untied, tmp_path_factory.mktemp("adapter"))[0]


@pytest.mark.parametrize(("damage", "words"), [
    (lambda lora: change(lora, use_new_formula=True), "the adapter has use_new_formula=True; accepted: LoRA of linear"),
    (lambda lora: (lora / SETTINGS).write_text("{}"), "the adapter is of type None; accepted"),
    (lambda lora: (lora / SETTINGS).write_text("[]"), r"adapter_config.json cannot be read \(it is a list"),
    (lambda lora: change(lora, peft_type="FANCY"), "the adapter is of type FANCY; accepted"),
    (lambda lora: change(lora, lora_alpha="x"), "has lora_alpha='x'; accepted: a number above 0"),
    (lambda lora: change(lora, lora_alpha=0), "has lora_alpha=0; accepted: a number above 0"),
    (lambda lora: change(lora, lora_alpha=-16.5), "has lora_alpha=-16.5; accepted: a number above 0"),
    (lambda lora: change(lora, alpha_pattern={"q_proj": -1}), "has alpha_pattern.q_proj=-1; accepted"),
    (lambda lora: change(lora, r=0), "has r=0; accepted: a number above 0"),
    (lambda lora: change(lora, alpha_pattern=[1]), r"has alpha_pattern=\[1\]; accepted"),
    (lambda lora: change(lora, r=8), "has 4 rows, and adapter_config.json has rank 8; accepted: the files of one"),
    (lambda lora: change(lora, base_model_name_or_path=""), "has base_model_name_or_path=''; accepted: the folder"),
    (lambda lora: change(lora, base_model_name_or_path=str(lora)), "which is an adapter too; accepted: an adapter of"),
    (without("layers.0.self_attn.q_proj.lora_A"), "has base_model.*lora_B.weight and no .*lora_A.weight; copy it"),
    (without("layers.0.self_attn.q_proj.lora_B"), "has base_model.*lora_A.weight and no .*lora_B.weight; copy it"),
    (without(""), "adapter_model.safetensors has no tensors; accepted"),
    (with_nan, "adapter_model.safetensors: base_model.*lora_A.weight has 1 values that are not finite"),
], ids=["later setting", "no type", "a list", "other type", "alpha", "alpha 0", "negative alpha", "alpha of one",
        "rank zero", "pattern", "rank", "no model",
        "adapter of an adapter", "no A", "no B", "empty", "NaN"])  # fmt: skip
def test_a_damaged_adapter_is_one_line(
    untied: Path, plain: Path, tmp_path: Path, damage: Callable[[Path], Any], words: str
) -> None:
    lora = Path(shutil.copytree(plain, tmp_path / "lora"))
    damage(lora)
    with pytest.raises(UserError, match=words):
        applied_to(untied, lora, tmp_path / "scratch")


def test_an_adapter_of_another_model_is_refused_by_the_plan(
    untied: Path, plain: Path, tmp_path: Path, composed: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    deeper = save(model_of("qwen2", tied=False, num_hidden_layers=4), tmp_path / "deeper")
    config = composed("merge", f"merge.base.path={deeper}", f"merge.tuned.path={plain}")
    with pytest.raises(ConfigError, match=f"{deeper} and {plain} cannot be merged: num_hidden_layers is 4 in the one"):
        check_models(config, graph.merged(config))
    change(lora := Path(shutil.copytree(plain, tmp_path / "lora")), use_dora=True)
    config = composed("merge", f"merge.base.path={untied}", f"merge.tuned.path={lora}")
    with pytest.raises(ConfigError, match="the adapter has use_dora=True"):
        check_models(config, graph.merged(config))


def test_every_tensor_of_an_adapted_model_keeps_its_type(untied: Path, plain: Path, tmp_path: Path) -> None:
    """Some models, as Qwen3-Next, have a few float32 tensors among bfloat16; the whole was written in float32."""
    mixed = Path(shutil.copytree(untied, tmp_path / "mixed"))
    weights = load_file(mixed / "model.safetensors")
    types = {name: torch.float32 if "norm" in name else torch.bfloat16 for name in weights}
    converted = {name: values.to(types[name]) for name, values in weights.items()}
    save_file(converted, mixed / "model.safetensors", metadata={"format": "pt"})
    change(lora := Path(shutil.copytree(plain, tmp_path / "lora")), base_model_name_or_path=str(mixed))
    applied = applied_to(mixed, lora, tmp_path / "scratch")
    assert {name: values.dtype for name, values in applied.items()} == types


def test_a_pattern_that_is_no_regular_expression_is_named(tmp_path: Path) -> None:
    """It was a traceback, as the first module was merged."""
    settings = {"peft_type": "LORA", "base_model_name_or_path": "org/model", "alpha_pattern": {"q_proj(": 4}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"adapter_config\.json has pattern 'q_proj\(' \(missing.*; accepted"):
        read_settings(tmp_path)
