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
