"""Ray Data with vLLM on the CPU: two workers on this machine, one of which is killed."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import psutil
import pytest

from micota.config import EngineConfig, RayConfig, SamplingConfig, SourceConfig
from micota.data.sources import load_problems, model_folder
from micota.engines import open_engine
from micota.engines.base import Request
from micota.errors import ConfigError

SAMPLED = SamplingConfig(temperature=1.0, max_tokens=280)
CONFIG = EngineConfig(name="ray", batch_size=8, dtype="float32", memory_fraction=0.05, ray=RayConfig(workers=2))


def requests_with(tokenizer: Any) -> list[Request]:
    problems = load_problems(SourceConfig(path="bundled:dev_medium.jsonl", id_column="id", limit=40))
    return [
        Request(id=(p.id, 0), prompt_ids=tokenizer(p.problem + "\n", add_special_tokens=False)["input_ids"], seed=index)
        for index, p in enumerate(problems)
    ]


def workers() -> list[psutil.Process]:
    children = [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if child.name().startswith("ray::MapWorker")]


@pytest.mark.ray
def test_it_samples_what_vllm_samples_though_a_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.data.llm")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    folder = model_folder("bundled:teacher")
    engine = open_engine(CONFIG, folder, None)
    requests = requests_with(engine.tokenizer)
    outputs = []
    for output in engine.generate(requests, SAMPLED):
        outputs.append(output)
        if len(outputs) == 5:
            alive = workers()
            assert len(alive) == 2
            alive[0].kill()
    engine.close()
    assert len(outputs) == len({output.id for output in outputs}) == len(requests)
    vllm = open_engine(replace(CONFIG, name="vllm", ray=None), folder, None)
    assert {replace(output, seconds=0.0).id: replace(output, seconds=0.0) for output in outputs} == {
        output.id: replace(output, seconds=0.0) for output in vllm.generate(requests, SAMPLED)
    }
    vllm.close()


def test_without_ray_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"engine=ray cannot import Ray Data .*; install it .*with:  pip install"):
        open_engine(CONFIG, model_folder("bundled:teacher"), None)
