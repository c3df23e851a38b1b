"""The stage merge, through the Python API."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import micota
from micota.data.sources import model_folder
from micota.errors import ConfigError, UserError


def test_a_merge_that_is_refused_after_it_wrote_weights_leaves_nothing(tmp_path: Path) -> None:
    """A next run would not go on from its files, which are as large as the model."""
    broken = tmp_path / "broken"
    shutil.copytree(model_folder("bundled:ta"), broken)
    model: Any = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        list(model.parameters())[-1].fill_(torch.nan)
    model.save_pretrained(broken)
    with pytest.raises(ConfigError, match="not finite"):
        micota.merge("bundled:ta", broken, method="linear", weight=0.5, artifacts=tmp_path / "artifacts")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize(("file", "content", "named"), [
    ("tokenizer.json", None, "its tokenizer cannot be read"),
    ("chat_template.jinja", "{% for m in %}", "the template of {folder} cannot render a question (Expected"),
])  # fmt: skip
def test_a_tuned_model_without_words_is_refused_before_the_merge(
    tmp_path: Path, file: str, content: str | None, named: str
) -> None:
    folder = Path(shutil.copytree(model_folder("bundled:ta"), tmp_path / "model"))
    for name in (file, *(["tokenizer_config.json"] if content is None else [])):
        (folder / name).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(UserError) as caught:
        micota.merge("bundled:ta", folder, method="linear", weight=0.5, artifacts=tmp_path / "artifacts")
    assert named.replace("{folder}", str(folder)) in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_adapter_without_a_tokenizer_is_merged(tmp_path: Path) -> None:
    """As ``save_pretrained`` of peft writes it: the command read the tokenizer of the adapter's folder."""
    from peft import LoraConfig, get_peft_model

    model: Any = AutoModelForCausalLM.from_pretrained(model_folder("bundled:ta"))
    adapted: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "lora")
    expected = adapted.merge_and_unload().state_dict()
    settings: dict[str, Any] = {"method": "linear", "weight": 1.0, "dtype": "float32"}
    folder = micota.merge("bundled:ta", tmp_path / "lora", artifacts=tmp_path / "artifacts", **settings)
    merged: Any = AutoModelForCausalLM.from_pretrained(folder)
    for name, values in merged.state_dict().items():
        torch.testing.assert_close(values.float(), expected[name].float())
