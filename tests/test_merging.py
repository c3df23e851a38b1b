from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from micota.config import ConfigError
from micota.export import export
from micota.merging import merge_models
from micota.sources import model_folder

RECIPE = {
    "method": "dare_ties", "density": 0.5, "weight": 0.5, "rescale": True, "normalize": False, "dtype": "float32",
}  # fmt: skip


def tuned(tmp_path: Path, scale: float = 0.01) -> Path:
    """The bundled TA, moved a little; in a folder with + in its name, as those of tuned models have it."""
    folder = tmp_path / "ta+strong"
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder("bundled:ta"))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    export(model, AutoTokenizer.from_pretrained(model_folder("bundled:ta")), folder)
    return folder


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_merge_keeps_about_density_of_the_task_vector_and_scales_it(tmp_path: Path) -> None:
    base, after = model_folder("bundled:ta"), tuned(tmp_path)
    norms = merge_models(RECIPE, (base, None), (str(after), None), tmp_path / "merged", seed=0)
    old, new, merged = weights(base), weights(after), weights(tmp_path / "merged")
    # Tied embeddings are one tensor under two names.
    delta = torch.cat([(new[name] - old[name]).flatten() for name in old])
    kept = torch.cat([(merged[name] - old[name]).flatten() for name in old])
    share = (kept != 0).float().mean()
    assert share == pytest.approx(0.5, abs=0.02)
    assert torch.equal(kept[kept != 0].sign(), delta[kept != 0].sign())
    assert norms["task_vector_norm"] == pytest.approx(float(delta.norm()), rel=1e-3)
    assert norms["merged_vector_norm"] == pytest.approx(float(kept.norm()), rel=1e-3)


def test_the_same_seed_gives_the_same_model_and_another_another(tmp_path: Path) -> None:
    base, after = (model_folder("bundled:ta"), None), (str(tuned(tmp_path)), None)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        merge_models(RECIPE, base, after, tmp_path / name, seed)
    files = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_full_density_and_weight_give_the_tuned_model(tmp_path: Path) -> None:
    after = tuned(tmp_path)
    recipe = RECIPE | {"density": 1.0, "weight": 1.0}
    merge_models(recipe, (model_folder("bundled:ta"), None), (str(after), None), tmp_path / "merged", seed=0)
    new, merged = weights(after), weights(tmp_path / "merged")
    for name in new:
        torch.testing.assert_close(merged[name], new[name], rtol=1e-5, atol=1e-6)


def test_the_result_is_a_whole_model(tmp_path: Path) -> None:
    merge_models(RECIPE, (model_folder("bundled:ta"), None), (str(tuned(tmp_path)), None), tmp_path / "m", seed=0)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert model.config.tie_word_embeddings and model.dtype == torch.float32
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(model_folder("bundled:ta")).chat_template
    assert not (tmp_path / "m" / "mergekit").exists()


def test_models_of_different_shape_are_refused(tmp_path: Path) -> None:
    other: Any = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    export(other, AutoTokenizer.from_pretrained(model_folder("bundled:ta")), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"cannot be merged: .* accepted: a model and its own fine-tune"):
        merge_models(RECIPE, (model_folder("bundled:ta"), None), (str(tmp_path / "other"), None), tmp_path / "m", 0)
