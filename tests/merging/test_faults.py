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
    GenerationConfig,
    GPT2Config,
    MixtralConfig,
    PreTrainedTokenizerFast,
)

from micota import graph
from micota.checkpoint import shards
from micota.errors import ConfigError
from micota.graph import MergekitSpec
from micota.merging import verify
from micota.merging.merge import merge_models
from micota.merging.mergekit import merge_by_mergekit
from micota.merging.models import check_loads_in_place, open_models, tensor_names
from micota.merging.plan import Share, depths
from micota.merging.pruning import TaskVector, mask_of
from micota.merging.report import layer_of, module_of
from micota.stages import merge_sweep
from micota.weight_files import files_of


def merge(models: list[Path], folder: Path, recipe: Any = None) -> dict[str, float]:
    folder.mkdir(parents=True)
    base, *tuned = ((str(path), None) for path in models)
    return merge_models(recipe or spec("linear"), base, tuned, folder, ASK)


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(model_of("qwen2", tied=False), tmp_path_factory.mktemp("model") / "untied")


@pytest.fixture
def whole_and_index(untied: Path, tmp_path: Path) -> Path:
    """A model whose index names another file of zeros."""
    folder = Path(shutil.copytree(untied, tmp_path / "both"))
    old = {name: torch.zeros_like(values) for name, values in tensors(untied).items()}
    save_file(old, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(old, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_a_whole_file_beside_an_index_is_read_as_transformers_does(whole_and_index: Path) -> None:
    """By merges, and by training that is sharded or looks for values that are not finite."""
    assert shards(whole_and_index) == [whole_and_index / "model.safetensors"]
    assert set(files_of(whole_and_index, None).values()) == {str(whole_and_index / "model.safetensors")}
    loaded = AutoModelForCausalLM.from_pretrained(whole_and_index).state_dict()
    assert all(torch.equal(values, loaded[name]) for name, values in tensors(whole_and_index).items())


def test_mergekit_reads_a_whole_file_beside_an_index(whole_and_index: Path, untied: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    locations = {"before": (str(untied), None), "tuned": (str(whole_and_index), None)}
    models = [{"model": "tuned", "parameters": {"weight": 1.0}}]
    recipe = MergekitSpec(config={"merge_method": "linear", "models": models, "dtype": "float32"}, seed=0)
    merge_by_mergekit(recipe, locations, tmp_path / "merged", ASK)
    before = tensors(untied)
    assert all(torch.equal(values, before[name]) for name, values in tensors(tmp_path / "merged").items())


def test_a_tensor_that_only_the_index_has_is_refused(untied: Path, tmp_path: Path) -> None:
    """The merge was written before transformers missed the tensor."""
    folder = Path(shutil.copytree(untied, tmp_path / "cut"))
    weights = tensors(untied)
    (folder / "model.safetensors").unlink()
    save_file({name: weights[name] for name in weights if name != "model.norm.weight"}, folder / "one.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "one.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"index.json names model.norm.weight, which no file has; fetch the model"):
        merge([folder, folder], tmp_path / "merged")


@pytest.mark.parametrize(("name", "wrapper"), [("qwen2", "model."), ("gpt2", "transformer.")])
@pytest.mark.parametrize("bare", [0, 1])
def test_names_without_the_wrapper_of_a_bare_model_are_those_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrapper: str, bare: int
) -> None:
    """As the published GPT-2 beside a fine-tune; old files also have frequencies, which transformers ignores."""
    monkeypatch.setitem(toy_models.CONFIGS, "gpt2", GPT2Config)
    models = family(tmp_path, name, tied=True, count=2)
    expected = [AutoModelForCausalLM.from_pretrained(path).state_dict() for path in models]
    weights = {key.removeprefix(wrapper): values for key, values in tensors(models[bare]).items()}
    weights["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, models[bare] / "model.safetensors", metadata={"format": "pt"})
    merge(models, tmp_path / "merged")
    for key, values in AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict().items():
        torch.testing.assert_close(values, (expected[0][key] + expected[1][key]) / 2)


def with_head(tied: Path, folder: Path, change: float) -> Path:
    """A copy of a tied model whose file has output embeddings too: those of the input plus ``change``."""
    weights = tensors(Path(shutil.copytree(tied, folder)))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + change
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_output_embeddings_that_a_config_ties_to_others_are_refused(tmp_path: Path) -> None:
    """transformers keeps both where the files differ from the config; a merge lost the output embeddings."""
    torch.manual_seed(0)
    tied = save(model_of("qwen2", tied=True), tmp_path / "tied")
    merge([tied, with_head(tied, tmp_path / "same", 0.0)], tmp_path / "merged")
    words = r"config.json ties lm_head.weight and model.embed_tokens.weight, whose values differ in the files"
    with pytest.raises(ConfigError, match=words):
        merge([tied, with_head(tied, tmp_path / "other", 0.1)], tmp_path / "lost")


def test_missing_output_embeddings_are_refused_before_the_merge(untied: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(untied, tmp_path / "headless"))
    weights = tensors(untied)
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"no file has lm_head.weight, and tie_word_embeddings is false"):
        merge([folder, folder], tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("*.safetensors"))


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
    with pytest.raises(ConfigError, match="no value is left for other tensors; accepted: "):
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


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_a_tokenizer_longer_than_the_embeddings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(toy_models.CONFIGS, "gpt2", GPT2Config)
    folder = save(model_of(name, tied=True), tmp_path / "longer")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(300)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"its tokenizer has the token '<extra_299>' at id .* embeddings have 300 rows"
    ):
        merge([folder, folder], tmp_path / "merged")


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
