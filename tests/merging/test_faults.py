"""Merges that gave a wrong model in silence, failed after their work, or ended in a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_models
from safetensors.torch import save_file
from toy_models import ASK, family, model_of, save, spec, tensors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    GenerationConfig,
    GPT2Config,
    MixtralConfig,
    PreTrainedTokenizerFast,
)

from micota import graph
from micota.checkpoint import Checkpoint, shards
from micota.errors import ConfigError
from micota.merging import verify
from micota.merging.adapter import Adapter
from micota.merging.merge import merge_models
from micota.merging.models import check_loads_in_place, open_models, tensor_names
from micota.merging.plan import Share, depths
from micota.merging.pruning import TaskVector, mask_of
from micota.merging.report import layer_of, module_of
from micota.stages import merge_sweep


def merge(models: list[Path], folder: Path, recipe: Any = None) -> dict[str, float]:
    folder.mkdir(parents=True)
    base, *tuned = ((str(path), None) for path in models)
    return merge_models(recipe or spec("linear"), base, tuned, folder, ASK)


def adapted(base: Path, folder: Path, **settings: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """A random adapter by peft, and the tensors of its model with the adapter merged in by peft."""
    from peft import LoraConfig, get_peft_model

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    wrapped: Any = get_peft_model(
        model, LoraConfig(**{"r": 4, "lora_alpha": 10, "target_modules": ["q_proj"]} | settings)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for values in wrapped.parameters():
            if values.requires_grad:
                values.add_(0.1 * torch.randn_like(values))
    wrapped.save_pretrained(folder / "lora")
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


def test_a_setting_of_a_later_peft_is_refused(untied: Path, tmp_path: Path) -> None:
    from dataclasses import make_dataclass

    from peft import LoraConfig

    lora, _ = adapted(untied, tmp_path)
    later = make_dataclass("LaterConfig", [("use_new_formula", bool, False)], bases=(LoraConfig,))
    with Checkpoint.open(untied) as model:
        Adapter(lora, later(), model)
        with pytest.raises(ConfigError, match="use_new_formula=True"):
            Adapter(lora, later(use_new_formula=True), model)


def test_input_embeddings_that_were_trained_apart_from_tied_ones_are_refused(tied: Path, tmp_path: Path) -> None:
    lora, _ = adapted(tied, tmp_path, modules_to_save=["embed_tokens"])
    with pytest.raises(ConfigError, match="whose embeddings are tied, and not the output embeddings"):
        merge([tied, lora], tmp_path / "merged")


def test_a_whole_file_beside_an_index_is_read_as_transformers_does(untied: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(untied, tmp_path / "both"))
    old = {name: torch.zeros_like(values) for name, values in tensors(untied).items()}
    save_file(old, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(old, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert shards(folder) == [folder / "model.safetensors"]
    loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(values, loaded[name]) for name, values in tensors(folder).items())


@pytest.fixture
def experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setitem(toy_models.CONFIGS, "mixtral", MixtralConfig)
    return family(tmp_path / "experts", "mixtral", tied=False, count=2)


def test_a_mixture_of_experts_larger_than_memory_is_checked(
    experts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "LOADED", {"cpu": 120_000})
    merge(experts, tmp_path / "merged")
    assert not [path for path in (tmp_path / "merged").iterdir() if path.is_dir()]


def test_names_that_differ_in_memory_are_refused_before_an_engine_loads(
    experts: list[Path], untied: Path, tmp_path: Path
) -> None:
    words = r"transformers loads .*experts.0.w1.weight of model type mixtral under"
    located = [(str(path), None) for path in experts]
    with open_models(located, tmp_path / "scratch") as models, pytest.raises(ConfigError, match=words):
        check_loads_in_place(models[1], tensor_names(models))
    with open_models([(str(untied), None)] * 2, tmp_path / "scratch") as models:
        check_loads_in_place(models[1], tensor_names(models))


def test_a_sweep_of_models_that_it_cannot_load_is_refused_before_it_begins(
    experts: list[Path], composed: Callable[..., Any]
) -> None:
    config = composed("merge", f"merge.base.path={experts[0]}", f"merge.tuned.path={experts[1]}", "engine=hf")
    with pytest.raises(ConfigError, match=r"experts.0.w1.weight of model type mixtral under another name, so that"):
        merge_sweep.check(config, graph.merge_sweep(config))
    merge_sweep.check(replace(config, engine=replace(config.engine, name="vllm")), graph.merge_sweep(config))


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
    wrapped.save_pretrained(tmp_path / "lora")
    config = wrapped.peft_config["default"]
    with Checkpoint.open(tmp_path / "gemma3") as checkpoint:
        adapter = Adapter(tmp_path / "lora", config, checkpoint)
        assert len(adapter.pairs) == 2 and adapter.pairs.keys() <= checkpoint.entries.keys()
        assert all("language_model" in name for name in adapter.pairs)


def test_layers_have_a_depth_whatever_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "wte.weight",
        "h.0.mlp.c_fc.weight",
        "transformer.h.2.attn.bias",
        "transformer.h.0.x",
        "h.4.mlp.c_fc.weight",
    ]
    assert list(depths(names).values()) == [0.0, 0.0, 1.0, 0.0, 1.0]
    mixed = ["vision.encoder.layers.1.x", "vision.encoder.layers.0.x", "model.layers.1.experts.3.y", "model.layers.4.z"]
    assert list(depths(mixed).values()) == [1.0, 0.0, 0.25, 1.0]
    assert layer_of("transformer.h.3.mlp.c_fc.weight") == "layer 3"
    assert module_of("transformer.h.3.mlp.c_fc.weight") == "mlp.c_fc.weight"
    monkeypatch.setitem(toy_models.CONFIGS, "gpt2", GPT2Config)
    models = family(tmp_path, "gpt2", tied=True, count=2)
    merge(models, tmp_path / "merged", spec("linear", weight=[0.0, 1.0]))
    first, last, merged = (tensors(path) for path in (*models, tmp_path / "merged"))
    blocks = sorted({name.split(".mlp")[0] for name in merged if ".mlp." in name})
    weight = "{}.mlp.c_fc.weight"
    torch.testing.assert_close(merged[weight.format(blocks[0])], first[weight.format(blocks[0])])
    torch.testing.assert_close(merged[weight.format(blocks[-1])], last[weight.format(blocks[-1])])


def test_a_list_without_a_value_for_other_tensors_is_refused_by_the_plan(composed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no value is left for other tensors; end the list with"):
        composed("merge", "merge=ties", "merge.weight=[{filter: mlp, value: 0.7}]")
    assert composed("merge", "merge=ties", "merge.weight=[{filter: mlp, value: 0.7}, {filter: '*', value: 0.1}]")


def test_della_ranks_within_a_row_of_each_expert() -> None:
    """A tensor of fused experts has three dimensions; ranks over a whole expert drop other elements."""
    torch.manual_seed(0)
    values = torch.randn(2, 3, 8)
    recipe = spec("della", epsilon=0.3, rescale="dare")
    stacked, plain = (
        mask_of(recipe, TaskVector("t", 0, shape, lambda a, b: values.flatten()[a:b].clone(), Share(1.0, 0.5, (1, 2))))
        for shape in ((2, 3, 8), (6, 8))
    )
    for one, other in zip(stacked(values.flatten(), 0, 48), plain(values.flatten(), 0, 48), strict=True):
        assert torch.equal(one, other)


def test_a_leftover_quantization_config_is_not_copied(untied: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(untied, tmp_path / "dequantised"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    merge([untied, folder], tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())


def test_a_tokenizer_longer_than_the_embeddings_is_refused(untied: Path, tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(untied)
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(300)])
    folder = Path(shutil.copytree(untied, tmp_path / "longer"))
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"its tokenizer has the token '<extra_299>' at id .* embeddings have 300 rows"
    ):
        merge([untied, folder], tmp_path / "merged")


def test_words_that_a_tokenizer_lacks_are_no_traceback(untied: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {word: number for number, word in enumerate(("<pad>", "<eos>", "one", "two"))}
    plain = Tokenizer(WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")
    folder = Path(shutil.copytree(untied, tmp_path / "words"))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    merge([folder, folder], tmp_path / "merged")
    assert (tmp_path / "merged" / "merge.json").exists()


def test_a_generation_config_that_transformers_refuses_to_save_is_repaired(untied: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(untied, tmp_path / "invalid"))
    (folder / "generation_config.json").write_text('{"eos_token_id": 1, "temperature": 0.6, "top_p": 0.95}')
    with pytest.raises(ValueError, match="invalid"):
        GenerationConfig.from_pretrained(folder).save_pretrained(tmp_path / "again")
    merge([untied, folder], tmp_path / "merged")
    written = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert written["do_sample"] is True and written["temperature"] == 0.6
    AutoModelForCausalLM.from_pretrained(tmp_path / "merged").save_pretrained(tmp_path / "again")
