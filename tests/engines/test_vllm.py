from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_requests import by_id, requests_of

from micota.artifacts.jsonl import read_jsonl
from micota.config import EngineConfig, SamplingConfig
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Request
from micota.errors import ConfigError
from micota.records import COMPLETIONS, Completion

GREEDY = SamplingConfig(temperature=0.0, max_tokens=150)
SAMPLED = SamplingConfig(temperature=1.0, max_tokens=200)
CONFIG = EngineConfig(name="vllm", batch_size=16, dtype="float32", memory_fraction=0.05)


@pytest.fixture(scope="module")
def engine() -> Any:
    torch.set_num_threads(1)
    return open_engine(CONFIG, model_folder("bundled:teacher"), None)


@pytest.fixture(scope="module")
def requests(engine: Any) -> list[Request]:
    return requests_of(engine, 48)


@pytest.mark.vllm
def test_greedy_equals_transformers(engine: Any, requests: list[Request]) -> None:
    hf = open_engine(replace(CONFIG, name="hf", memory_fraction=0.9), model_folder("bundled:teacher"), None)
    outputs = by_id(engine.generate(requests, GREEDY))
    assert outputs == by_id(hf.generate(requests, GREEDY))
    assert set(Counter(output.finish_reason for output in outputs.values())) == {"stop", "length"}
    assert engine.context_tokens == hf.context_tokens


@pytest.mark.vllm
def test_completions_come_as_they_finish(engine: Any, requests: list[Request]) -> None:
    outputs = engine.generate(requests, GREEDY)
    first = next(outputs)
    assert first.num_tokens < GREEDY.max_tokens and engine._engine.has_unfinished_requests()
    outputs.close()
    assert not engine._engine.has_unfinished_requests(), "an abandoned run must stop all its requests"
    assert by_id(engine.generate(requests, GREEDY))[first.id] == replace(first, seconds=0.0)


@pytest.mark.vllm
def test_a_resumed_run_samples_only_what_is_missing_and_the_same(engine: Any, requests: list[Request]) -> None:
    whole = by_id(engine.generate(requests, SAMPLED))
    done = [replace(request, done=index % 3 == 0 or index > 16) for index, request in enumerate(requests)]
    rest = by_id(engine.generate(done, SAMPLED))
    assert rest.keys() == {request.id for request in done if not request.done}
    assert all(whole[key] == output for key, output in rest.items())
    other = by_id(engine.generate([replace(r, seed=r.seed + 1000) for r in requests], SAMPLED))
    assert sum(other[key].text != whole[key].text for key in whole) > len(whole) // 2


@pytest.mark.vllm
def test_a_setting_that_this_build_cannot_follow_is_refused(engine: Any) -> None:
    with pytest.raises(ConfigError, match=r"engine\.batch_invariant=True: vLLM has no batch-invariant kernels for CPU"):
        open_engine(replace(CONFIG, batch_invariant=True), model_folder("bundled:teacher"), None)


@pytest.mark.vllm
def test_the_command(run_command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    finished = run_command(
        "generate", "experiment=tiny", "tracker=none", "data=strong", "engine=vllm", "engine.memory_fraction=0.05",
        "engine.batch_size=64", "problems.limit=64", "select.num_examples=8", "select.filters=[finished]",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    (path,) = tmp_path.glob(f"artifacts/completions/*/{COMPLETIONS}")
    rows = read_jsonl(path, Completion)
    assert len({row.problem_id for row in rows}) == len(rows) == 64


@pytest.mark.vllm
def test_a_closed_engine_frees_memory_for_the_next_model(engine: Any, requests: list[Request]) -> None:
    engine.close()  # the last test that needs it
    other = open_engine(replace(CONFIG, memory_fraction=0.2), model_folder("bundled:student"), None)
    assert len(list(other.generate(requests[:4], GREEDY))) == 4
    other.close()


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"engine=vllm .*pip install 'micota\[vllm\]'"):
        open_engine(CONFIG, model_folder("bundled:teacher"), None)
