"""vLLM answers alike with a merge loaded into it while it runs and with the same merge from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import ASK, spec
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.config import EngineConfig, SamplingConfig, SourceConfig
from micota.data.sources import load_problems, model_folder
from micota.engines import open_engine
from micota.engines.base import Request, WeightLoader
from micota.export import export
from micota.merging.merge import merge_models
from micota.merging.models import open_models, tensor_names
from micota.merging.sweep import Sweep

CONFIG = EngineConfig(name="vllm", batch_size=16, dtype="float32", memory_fraction=0.05, prefix_caching=True)
GREEDY = SamplingConfig(temperature=0.0, max_tokens=60)
POINTS = [(0.5, 0.4), (0.8, 1.0)]
PROMPT_TOKENS = 140  # longer than a block of the cache of prefixes, which must not survive the weights


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, None]]:
    """The bundled TA, and that TA moved as far as makes it answer otherwise."""
    base = model_folder("bundled:ta")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.02 * torch.randn_like(values))
    tuned = tmp_path_factory.mktemp("tuned")
    export(model, AutoTokenizer.from_pretrained(base), tuned)
    return [(base, None), (str(tuned), None)]


def answers(engine: Any) -> list[str]:
    problems = load_problems(SourceConfig(path="bundled:dev_medium.jsonl", id_column="id", limit=16))
    requests = []
    for problem in problems:
        ids = engine.tokenizer(problem.problem + "\n", add_special_tokens=False)["input_ids"]
        requests.append(Request(id=(problem.id, 0), prompt_ids=(ids * PROMPT_TOKENS)[:PROMPT_TOKENS], seed=0))
    texts = {output.id: output.text for output in engine.generate(requests, GREEDY)}
    return [texts[request.id] for request in requests]


@pytest.mark.vllm
def test_in_memory_and_from_disk_answer_alike(pair: list[tuple[str, None]], tmp_path: Path) -> None:
    recipe = spec("dare_ties", dtype="float32")
    engine = open_engine(CONFIG, pair[1][0], None, takes_weights=True)
    assert isinstance(engine, WeightLoader)
    with open_models(pair, tmp_path / "scratch") as models:
        sweep = Sweep(
            recipe, models[0].checkpoint, [models[1].checkpoint], tensor_names(models), [0.5, 0.8], tmp_path / "scratch"
        )
        unmerged, in_memory = answers(engine), []
        for density, weight in POINTS:
            engine.load_weights(sweep.merge(density, weight, 0).tensors())
            in_memory.append(answers(engine))
    engine.close()
    assert in_memory[0] != in_memory[1] != unmerged, "the merges do not differ"
    for number, ((density, weight), texts) in enumerate(zip(POINTS, in_memory, strict=True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        merge_models(spec("dare_ties", density=density, weight=weight), pair[0], pair[1:], folder, ASK)
        engine = open_engine(CONFIG, str(folder), None)
        assert answers(engine) == texts
        engine.close()
