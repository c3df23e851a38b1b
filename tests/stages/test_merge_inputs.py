"""Models that do not fit each other are refused by their config.json, before a weight is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import micota
from micota import graph
from micota.data.sources import model_folder
from micota.errors import ConfigError
from micota.graph.stage import function, stage_of

QWEN = {"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 300,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}  # fmt: skip


def folder(path: Path, **changes: Any) -> Path:
    """A model of which there is nothing but its config.json."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(QWEN | changes))
    return path


@pytest.mark.parametrize(("changes", "named"), [
    ({"hidden_size": 128}, "hidden_size is 64 in the one and 128 in the other"),
    ({"num_hidden_layers": 3}, "num_hidden_layers is 2 in the one and 3 in the other"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings is True in the one and False in the other"),
    ({"model_type": "llama"}, "model_type is 'qwen2' in the one and 'llama' in the other"),
])  # fmt: skip
def test_what_differs_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    base, tuned = folder(tmp_path / "base"), folder(tmp_path / "tuned", **changes)
    with pytest.raises(ConfigError) as caught:
        micota.merge(base, tuned, artifacts=tmp_path / "artifacts")
    assert str(caught.value).startswith(f"{base} and {tuned} cannot be merged: {named}; accepted: a model and")
    assert not list((tmp_path / "artifacts").glob("models/*")), "nothing is left of it"


def test_each_merge_of_models_that_exist_is_checked(composed: Callable[..., Any], tmp_path: Path) -> None:
    base, tuned = folder(tmp_path / "base"), folder(tmp_path / "tuned", hidden_size=128)
    paths = [f"merge.base.path={base}", f"merge.tuned.path={tuned}"]
    for node in (graph.merged(composed("merge", *paths)), graph.merge_sweep(composed("merge", *paths))):
        with pytest.raises(ConfigError, match="hidden_size"):
            function(stage_of(node).check)(composed("merge", *paths), node)
    with pytest.raises(ConfigError, match=r"merge\.device='cuda', but PyTorch sees no GPU here; .* merge\.device=cpu"):
        config = composed("merge", *paths, "merge.device=cuda")
        function(stage_of(graph.merged(config)).check)(config, graph.merged(config))
    padded = folder(tmp_path / "padded", vocab_size=320)
    same = [f"merge.base.path={base}", f"merge.tuned.path={padded}"]
    node = graph.merged(composed("merge", *same))
    function(stage_of(node).check)(composed("merge", *same), node)  # padding may differ
    (tmp_path / "empty").mkdir()
    wrong = [f"merge.base.path={base}", f"merge.tuned.path={tmp_path / 'empty'}"]
    with pytest.raises(ConfigError, match=r"merge\.tuned\.path='.*empty': the folder is no model \(it has nothing\)"):
        composed("merge", *wrong)


@pytest.mark.slow
def test_a_student_of_the_merge_of_two_folders(tmp_path: Path) -> None:
    """No teacher runs and no TA is trained; every later command takes the merge for the merged TA."""
    folders = [shutil.copytree(model_folder("bundled:ta"), tmp_path / name) for name in ("base", "tuned")]
    weights = load_file(folders[1] / "model.safetensors")
    save_file(
        {name: 1.01 * values for name, values in weights.items()}, folders[1] / "model.safetensors", {"format": "pt"}
    )
    settings = ["experiment=tiny", f"merge.base.path={folders[0]}", f"merge.tuned.path={folders[1]}", "tracker=none",
                f"artifacts={tmp_path / 'artifacts'}", "problems.limit=8", "select.num_examples=null",
                "select.filters=[finished]", "bench=[tiny_easy]", "bench.easy.limit=2"]  # fmt: skip
    merged = micota.merge(folders[0], folders[1], dtype="float32", artifacts=tmp_path / "artifacts")
    assert graph.merged(micota.compose(settings, "merge")).key in merged.name, "one merge, by path or by config"
    micota.generate([*settings, "data=micota"])
    micota.train([*settings, "data=micota"])
    assert micota.evaluate([*settings, "data=micota"])["easy"]["num_problems"] == 2
    made = sorted(path.name for path in (tmp_path / "artifacts" / "models").iterdir())
    assert made[0].startswith("tiny_student+micota") and made[1] == merged.name and len(made) == 2
