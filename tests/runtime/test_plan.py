from __future__ import annotations

from pathlib import Path

import pytest

import micota
from micota import graph
from micota.config import OtherModelConfig
from micota.graph.models import named, source
from micota.runtime.plan import models_read, where_it_lies


def test_the_plan_says_where_models_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lies(path: str, revision: str | None = None) -> str:
        return where_it_lies(source(named(OtherModelConfig(path=path, revision=revision))))

    assert lies("Qwen/None-1B", "abc") == "Qwen/None-1B at abc, not on this machine"
    assert Path(lies("bundled:ta", "af32")).is_dir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert lies("./mine") == str(tmp_path / "mine")
    config = micota.compose(["merge.tuned.path=a/b", "merge.base.path=c/d"], "merge")
    assert models_read(config, [graph.merged(config)]) == ["d: c/d, not on this machine", "b: a/b, not on this machine"]


def test_a_model_behind_an_api_lies_there() -> None:
    config = micota.compose(
        ["teacher.path=deepseek-reasoner", "teacher.engine=chat", "teacher.engine.chat.url=http://here/v1"], "generate"
    )
    completions = graph.trained(config, "ta").inputs["data"].inputs["completions"]
    assert models_read(config, [completions]) == ["deepseek-reasoner: deepseek-reasoner, an API at http://here/v1"]
