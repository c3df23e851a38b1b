"""Exported configs and tokenizers keep the form of their source, which transformers 4 and 5 read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from micota.data.sources import model_folder
from micota.export import export
from micota.model_files import portable_tokenizer, with_rope, write_tokenizer

# As Qwen2.5 has them on the hub, and a key that transformers does not know.
CONFIG_OF_VERSION_4 = {
    "rope_theta": 1000000.0,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
    "torch_dtype": "bfloat16", "transformers_version": "4.43.1", "use_mrope": False,
}  # fmt: skip
GENERATION = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
TOKENIZER_OF_VERSION_4 = {
    "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "pad_token": "<pad>", "model_max_length": 1024,
    "clean_up_tokenization_spaces": False, "errors": "replace", "add_prefix_space": False,
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The bundled TA in bfloat16, with the files that transformers 4 writes."""
    folder = tmp_path / "source"
    shutil.copytree(model_folder("bundled:ta"), folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"], config["dtype"]
    (folder / "config.json").write_text(json.dumps(config | CONFIG_OF_VERSION_4))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION | {"eos_token_id": [1, 2]}))
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    settings = TOKENIZER_OF_VERSION_4 | {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def exported(source: Path, folder: Path, template: str | None = None) -> Path:
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    if template is not None:
        tokenizer.chat_template = template
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    export(model, tokenizer, folder, (str(source), None), torch.bfloat16)
    return folder


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_files_of_the_source_are_kept(source: Path, tmp_path: Path) -> None:
    folder = exported(source, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert read(folder / name) == read(source / name)
    assert read(folder / "config.json") == read(source / "config.json") | {
        "eos_token_id": [1, 2], "pad_token_id": 0, "use_cache": True
    }  # fmt: skip
    assert read(folder / "generation_config.json") == GENERATION | {"eos_token_id": [1, 2], "pad_token_id": 0}
    assert (folder / "model.safetensors").stat().st_size == (source / "model.safetensors").stat().st_size
    assert GenerationConfig.from_pretrained(folder).temperature == 0.7
    again = AutoConfig.from_pretrained(folder)
    assert again.rope_parameters["rope_theta"] == 1000000.0 and again.rope_parameters["factor"] == 4.0
    assert again.dtype == torch.bfloat16


def test_another_chat_template_is_written_where_readers_look(source: Path, tmp_path: Path) -> None:
    other = "{{ messages[0]['content'] }}"
    folder = exported(source, tmp_path / "model", other)
    assert AutoTokenizer.from_pretrained(folder).chat_template == other
    assert (
        read(folder / "tokenizer_config.json")["chat_template"] == other == (folder / "chat_template.jinja").read_text()
    )


def test_files_of_transformers_5_get_the_names_of_transformers_4(tmp_path: Path) -> None:
    source = model_folder("bundled:ta")
    assert read(Path(source, "tokenizer_config.json"))["tokenizer_class"] == "TokenizersBackend"
    folder = exported(Path(source), tmp_path / "model")
    assert read(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert read(folder / "config.json")["rope_theta"] == 10000.0
    one, other = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(folder)
    assert one.get_vocab() == other.get_vocab() and one.special_tokens_map == other.special_tokens_map


def test_a_changed_tokenizer_is_written_whole(source: Path, tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    write_tokenizer(tokenizer, (str(source), None), tmp_path / "model")
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again.get_vocab() == tokenizer.get_vocab() and "<new>" in again.all_special_tokens
    assert isinstance(read(tmp_path / "model" / "tokenizer_config.json").get("extra_special_tokens", {}), dict)


def test_special_tokens_and_classes_of_transformers_5_are_renamed() -> None:
    written = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "extra_special_tokens": ["<a>"]}
    assert portable_tokenizer(written) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"]
    }  # fmt: skip
    named = {"tokenizer_class": "Qwen2Tokenizer", "extra_special_tokens": {"image_token": "<i>"}}
    assert portable_tokenizer(named) == named


def test_rotary_settings_have_the_keys_of_transformers_4() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0}
    assert with_rope({"rope_parameters": {"rope_theta": 5.0, **yarn}})["rope_scaling"] == yarn
    layers = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
    }
    of_layers = with_rope({"text_config": {"rope_parameters": layers}})["text_config"]
    assert (of_layers["rope_theta"], of_layers["rope_local_base_freq"]) == (1e6, 1e4)
    assert of_layers["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert with_rope({"rope_theta": 7.0}) == {"rope_theta": 7.0}
