"""A model that cannot be read is one line that names the key, the value and what is accepted."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from safetensors.torch import load_file, save_file
from transformers import Gemma3TextConfig, MambaConfig, Phi3Config

from micota.data.sources import model_folder
from micota.errors import ModelError, SourceError
from micota.pretrained import ACCEPTED, context_of, load_config, load_model, load_tokenizer, reading, rope_border
from micota.runtime.execute import naming_keys
from micota.weight_files import check_files, not_finite


def resized(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_size": 96}))


def deeper(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))


def shallower(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 1}))


def wordless(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')


def own_code(folder: Path) -> None:
    """A folder with a type of model that comes with its code, which is not run and not asked about."""
    settings = {"model_type": "zzz", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(settings))


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder("bundled:student"), tmp_path / "model"))


@pytest.mark.parametrize(("damage", "load", "text"), [
    (lambda folder: (folder / "config.json").unlink(), load_config, "its folder has no config.json (it has chat_t"),
    (wordless, load_tokenizer, "its tokenizer cannot be read (it has no words: tokenizer.json, or the files of its cl"),
    (lambda folder: (folder / "config.json").write_text("{broken"), load_config, "not a valid JSON file"),
    (lambda folder: (folder / "config.json").write_text("[]"), load_tokenizer, "tokenizer cannot be read"),
    (lambda folder: (folder / "config.json").write_text('{"model_type": "zzz"}'), load_model, "model type `zzz`"),
    (resized, load_model, "more of config.json are missing, or have other sizes in the weights"),
    (deeper, load_model, "model.layers.2.input_layernorm.weight and 8 more of config.json are missing, or"),
    (shallower, load_model, "num_hidden_layers is 1, and the weights have model.layers.1."),
    (own_code, load_config, "contains custom code"),
    (lambda folder: (folder / "model.safetensors").unlink(), load_model, "no file named model.safetensors"),
    (cut, load_model, "file not fully covered"),
    (lambda folder: (folder / "tokenizer.json").unlink(), load_tokenizer, "tokenizer cannot be read"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), load_tokenizer, "KeyError: 'added_tokens'"),
    (lambda folder: (folder / "tokenizer_config.json").write_text("{"), load_tokenizer, "tokenizer cannot be read"),
])  # fmt: skip
def test_damage_is_named(
    model: Path, damage: Callable[[Path], object], load: Callable[[Path], object], text: str
) -> None:
    load(model)
    damage(model)
    with pytest.raises(ModelError) as caught:
        load(model)
    said = str(caught.value)
    assert said.startswith(f"path='{model}': its ") and text in said and said.endswith(f"accepted: {ACCEPTED}")
    assert "\n" not in said and len(said) < 500


def with_value(folder: Path, value: float, name: str = "model.layers.1.mlp.up_proj.weight") -> Path:
    """The folder with a value at position 70 of a weight."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[70] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_named_with_their_file(model: Path, value: float) -> None:
    """Where transformers reads them, and where other libraries will."""
    with_value(model, value)
    for read in (load_model, lambda folder: check_files(folder, None)):
        with pytest.raises(ModelError) as caught:
            read(model)
        assert str(caught.value) == (
            f"path='{model}': model.layers.1.mlp.up_proj.weight of {model}/model.safetensors has 1 values that are not "
            "finite (NaN or infinity), the first at 70; accepted: finite numbers, as in another copy of the model"
        )


def test_values_beyond_a_smaller_type_are_told_from_damage(model: Path) -> None:
    with_value(model, 1e30)
    load_model(model)
    text = r"has 1 values that are not finite \(NaN.*, the first at 70 in float16, while those in the file are;"
    with pytest.raises(ModelError, match=text):
        load_model(model, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_single_value_that_is_not_finite_is_found_in_every_type(dtype: torch.dtype) -> None:
    for value in (math.nan, math.inf, -math.inf):
        for place in (0, 37, 998):
            values = torch.randn(999, generator=torch.Generator().manual_seed(0)).to(dtype)
            assert not_finite(values) is None
            values[place] = value
            assert not_finite(values) == f"1 values that are not finite (NaN or infinity), the first at {place}"
    assert not_finite(torch.zeros(0)) is None and not_finite(torch.ones(2, dtype=torch.long)) is None


def test_the_hub_is_named_with_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"^path='does/not-exist' at revision 'v2': there is no such folder here, "):
        load_tokenizer("does/not-exist", "v2")


def test_the_key_is_named(composed: Callable[..., object]) -> None:
    config = composed("train", "teacher.path=does/not-exist", "data=strong")
    with pytest.raises(SourceError, match=r"^teacher\.path='does/not-exist': no"), naming_keys(config):  # type: ignore[arg-type]
        raise ModelError("path='does/not-exist': no", "does/not-exist")
    with pytest.raises(SourceError, match=r"^model path='artifacts/x': no"), naming_keys(config):  # type: ignore[arg-type]
        raise ModelError("path='artifacts/x': no", "artifacts/x")


def test_full_memory_is_not_taken_for_a_damaged_model() -> None:
    with pytest.raises(torch.OutOfMemoryError), reading("model", None, "weights"):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(("command", "overrides"), [
    ("generate", ["data=strong", "teacher.path=does/not-exist"]),
    pytest.param("generate", ["data=strong", "teacher.path=does/not-exist", "show_prompts=1"], marks=pytest.mark.slow),
    pytest.param("evaluate", ["data=instruct", "student.path=does/not-exist"], marks=pytest.mark.slow),
    pytest.param("pipeline", ["student.path=does/not-exist", "compare.recipes=[instruct]"], marks=pytest.mark.slow),
])  # fmt: skip
def test_commands_print_the_error_on_one_line(
    run_command: Callable[..., subprocess.CompletedProcess[str]], command: str, overrides: list[str]
) -> None:
    finished = run_command(command, *SMALL, *overrides, HF_HUB_OFFLINE="1")
    assert finished.returncode == 2, finished.stderr
    key = next(override for override in overrides if ".path=" in override).partition("=")[0]
    assert finished.stderr.startswith(f"error: {key}='does/not-exist'")
    assert finished.stderr.count("\n") == 1 and ACCEPTED in finished.stderr


def test_the_context_and_the_border_of_longrope_are_those_of_the_config() -> None:
    factors = [1.0] * 48
    rope = {"rope_type": "longrope", "short_factor": factors, "long_factor": factors, "rope_theta": 1e4}
    long = Phi3Config(max_position_embeddings=131072, original_max_position_embeddings=4096, rope_parameters=rope)
    assert (context_of(long), rope_border(long)) == (131072, 4096)
    assert (context_of(Phi3Config(max_position_embeddings=4096)), rope_border(Phi3Config())) == (4096, None)
    assert rope_border(Gemma3TextConfig()) is None and context_of(MambaConfig()) is None


def test_a_file_is_no_model(model: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.safetensors': it is a file; accepted: a folder with config\.json"):
        load_tokenizer(model / "model.safetensors")
