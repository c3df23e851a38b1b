from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.auto import AutoModelForCausalLM as FromConfig

from micota.data.sources import model_folder
from micota.errors import ExportError
from micota.export import Weight, export, export_streamed, rehearse, whole_weights

SHAPE = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "qwen2, tied": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "llama, untied": LlamaConfig(**SHAPE, tie_word_embeddings=False),
    "gemma2, tied": Gemma2Config(**SHAPE),
}


def model_and_tokenizer(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return FromConfig.from_config(CONFIGS[name]), AutoTokenizer.from_pretrained(model_folder("bundled:ta"))


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("shard_bytes", [1, 2**30])
def test_streamed_equals_what_transformers_writes(tmp_path: Path, name: str, shard_bytes: int) -> None:
    model, tokenizer = model_and_tokenizer(name)
    export(model, tokenizer, tmp_path / "plain")
    weights = whole_weights(model, lambda weight: weight)
    export_streamed(model, tokenizer, tmp_path / "streamed", weights, writes=True, shard_bytes=shard_bytes)
    expected, streamed = (AutoModelForCausalLM.from_pretrained(tmp_path / n) for n in ("plain", "streamed"))
    for key, value in expected.state_dict().items():
        assert torch.equal(streamed.state_dict()[key], value), key
    tied = streamed.get_output_embeddings().weight is streamed.get_input_embeddings().weight
    assert tied == ("untied" not in name)
    for file in ("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "plain" / file).read_text() == (tmp_path / "streamed" / file).read_text(), file
    index = tmp_path / "streamed" / "model.safetensors.index.json"
    assert index.exists() == (shard_bytes == 1)
    if index.exists():
        content = json.loads(index.read_text())
        assert len(set(content["weight_map"].values())) == len(content["weight_map"])
        assert content["metadata"]["total_size"] == 4 * sum(weight.numel() for weight in model.parameters())


def test_a_rank_that_does_not_write_makes_no_file(tmp_path: Path) -> None:
    model, tokenizer = model_and_tokenizer("llama, untied")
    read: list[str] = []

    def noting(weight: Weight) -> Weight:
        return replace(weight, read=lambda: read.append(weight.name) or weight.read())

    weights = whole_weights(model, lambda weight: weight)
    export_streamed(model, tokenizer, tmp_path, [noting(weight) for weight in weights], writes=False)
    assert not list(tmp_path.iterdir())
    assert read == [weight.name for weight in weights], "it must take part all the same"


def test_eos_is_in_every_file(tmp_path: Path) -> None:
    model, tokenizer = model_and_tokenizer("qwen2, tied")
    export(model, tokenizer, tmp_path)
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / file).read_text())["eos_token_id"] == tokenizer.eos_token_id


def test_the_end_of_a_turn_ends_generation(tmp_path: Path) -> None:
    model, tokenizer = model_and_tokenizer("gemma2, tied")
    tokenizer.add_tokens(["<end_of_turn>"], special_tokens=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<end_of_turn>\n{% endfor %}"
    export(model, tokenizer, tmp_path)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / file).read_text())["eos_token_id"] == ends


def test_a_rehearsal_removes_its_files(tmp_path: Path) -> None:
    model, tokenizer = model_and_tokenizer("llama, untied")
    rehearse(model, tokenizer, tmp_path / "rehearsal")
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_would_come_back_as_another_is_refused(tmp_path: Path) -> None:
    """Beside a Qwen2 model transformers reads any tokenizer as Qwen's, with its added tokens."""
    model, tokenizer = model_and_tokenizer("qwen2, tied")
    with pytest.raises(ExportError, match="the vocabulary would not survive the export"):
        rehearse(model, tokenizer, tmp_path / "rehearsal")


def test_generation_settings_that_transformers_refuses_to_save_are_kept(tmp_path: Path) -> None:
    """As with huggingface/transformers#29988: published models have them, and saving raised after a long run."""
    model, tokenizer = model_and_tokenizer("llama, untied")
    model.generation_config.do_sample = False
    model.generation_config.temperature = 0.5
    rehearse(model, tokenizer, tmp_path / "rehearsal")
    export(model, tokenizer, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["temperature"] == 0.5
    assert model.generation_config.temperature == 0.5


@pytest.mark.parametrize("name", ["llama, untied", "gemma2, tied"])
def test_weights_are_written_in_another_dtype(tmp_path: Path, name: str) -> None:
    model, tokenizer = model_and_tokenizer(name)
    weights = whole_weights(model, lambda weight: weight)
    rehearse(model, tokenizer, tmp_path / "rehearsal", dtype=torch.bfloat16)
    export_streamed(model, tokenizer, tmp_path / "streamed", weights, writes=True, dtype=torch.bfloat16)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export(model, tokenizer, tmp_path / "plain", dtype=torch.bfloat16)
    for folder in ("plain", "streamed"):
        written = AutoModelForCausalLM.from_pretrained(tmp_path / folder, dtype="auto")
        assert written.dtype == torch.bfloat16 == written.config.dtype
        for key, value in written.state_dict().items():
            assert torch.equal(value, before[key].to(torch.bfloat16)), key


def test_tokens_that_get_other_ids_when_they_are_read_are_refused_before_training(tmp_path: Path) -> None:
    """As those added to a vocabulary with gaps: the export would end turns in the id of another token."""
    words = Tokenizer(models.WordLevel({"<pad>": 0, "a": 1, "<eos>": 9}, unk_token="<pad>"))
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>")
    tokenizer.add_tokens(["<end>"], special_tokens=True)
    assert tokenizer.get_vocab()["<end>"] == 10
    with pytest.raises(ExportError, match="the vocabulary would not survive the export of this model; nothing was"):
        rehearse(model_and_tokenizer("llama, untied")[0], tokenizer, tmp_path / "rehearsal")
