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
from micota.errors import ConfigError


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
