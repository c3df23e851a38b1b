from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import thorough_after
from engine_requests import by_id, requests_of

from micota.config import EngineConfig, SamplingConfig
from micota.data.sources import model_folder
from micota.engines import open_engine
from micota.engines.base import Request
from micota.engines.hf import GrowingLayer, HFEngine

GREEDY = SamplingConfig(temperature=0.0, max_tokens=150)
SAMPLED = SamplingConfig(temperature=1.0, max_tokens=280)


@pytest.fixture(scope="module")
def engine() -> Any:
    torch.set_num_threads(1)
    return open_engine(EngineConfig(name="hf", dtype="float32", device="cpu"), model_folder("bundled:teacher"), None)


@pytest.fixture(scope="module")
def requests(engine: HFEngine) -> list[Request]:
    return requests_of(engine, 24)


def test_greedy_equals_transformers_generate(engine: HFEngine, requests: list[Request]) -> None:
    outputs = by_id(engine.generate(requests, GREEDY))
    assert len(outputs) == len(requests)
    reasons = Counter()
    for request in requests:
        ids = torch.tensor([request.prompt_ids])
        expected = engine.model.generate(ids, max_new_tokens=GREEDY.max_tokens, do_sample=False)[0, ids.shape[1] :]
        output = outputs[request.id]
        assert output.text == engine.tokenizer.decode(expected, skip_special_tokens=True)
        assert output.num_tokens == len(expected)
        reasons[output.finish_reason] += 1
    assert set(reasons) == {"stop", "length"}, "the test should see answers that end and answers that are cut"


def test_batches_and_compaction_do_not_change_greedy_answers(engine: HFEngine, requests: list[Request]) -> None:
    engine.batch_size = 5
    small = by_id(engine.generate(requests, GREEDY))
    engine.batch_size = 64
    assert by_id(engine.generate(requests, GREEDY)) == small


def test_the_cache_grows_by_half_so_that_few_buffers_are_freed() -> None:
    layer, lengths = GrowingLayer(), []
    for token in range(2000):
        keys = torch.full((1, 1, 1, 2), float(token))
        held, _ = layer.update(keys, keys)
        lengths.append(layer._buffers[0].shape[-2])
    assert torch.equal(held[0, 0, :, 0], torch.arange(2000.0))
    assert len(set(lengths)) <= 12 and lengths[-1] <= 1.5 * 2000 + 2


def test_slots_of_finished_rows_are_refilled(
    engine: HFEngine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer steps than batches that wait for their longest answer, at equal answers."""
    engine.batch_size = 4
    steps = []
    forward = engine._forward
    monkeypatch.setattr(engine, "_forward", lambda batch: (steps.append(len(batch.rows)), forward(batch))[1])
    outputs = by_id(engine.generate(requests, GREEDY))
    ordered = sorted(requests, key=lambda request: -len(request.prompt_ids))
    lengths = [outputs[request.id].num_tokens for request in ordered]
    padded = sum(max(lengths[start : start + 4]) - 1 for start in range(0, len(lengths), 4))
    assert max(steps) == 4 and len(steps) < padded and sum(steps) < 1.1 * sum(lengths)


@pytest.mark.parametrize("rounds", thorough_after(1, [2, 1, 8]))
def test_a_resumed_run_gives_the_same_samples(
    engine: HFEngine, requests: list[Request], monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    """Also where windows are wholly done, or not at all."""
    monkeypatch.setattr("micota.engines.hf.ROUNDS", rounds)
    engine.batch_size = 4
    whole = by_id(engine.generate(requests, SAMPLED))
    done = [replace(request, done=index % 3 == 0 or index > 16) for index, request in enumerate(requests)]
    rest = by_id(engine.generate(done, SAMPLED))
    assert rest.keys() == {request.id for request in done if not request.done}
    assert all(whole[key] == output for key, output in rest.items())


def test_samples_differ_by_seed_and_by_nothing_else(engine: HFEngine, requests: list[Request]) -> None:
    again = by_id(engine.generate(requests, SAMPLED))
    assert by_id(engine.generate(requests, SAMPLED)) == again
    other = by_id(engine.generate([replace(r, seed=r.seed + 1000) for r in requests], SAMPLED))
    assert sum(other[key].text != again[key].text for key in again) > len(again) // 2


def test_sampling_follows_the_distribution(engine: HFEngine) -> None:
    logits = torch.full((4000, engine._forbidden.shape[0]), -torch.inf)
    logits[:, 10:13] = torch.tensor([0.6, 0.3, 0.1]).log()
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    counts = Counter(engine._choose(logits, SAMPLED, uniform).tolist())
    assert counts[10] / 4000 == pytest.approx(0.6, abs=0.03) and counts[12] / 4000 == pytest.approx(0.1, abs=0.02)
    nucleus = Counter(engine._choose(logits, replace(SAMPLED, top_p=0.8), uniform).tolist())
    assert set(nucleus) == {10, 11} and nucleus[10] / 4000 == pytest.approx(2 / 3, abs=0.03)
    cold = Counter(engine._choose(logits, replace(SAMPLED, temperature=0.01), uniform).tolist())
    assert set(cold) == {10}


def test_padding_and_unused_ids_are_never_sampled(engine: HFEngine) -> None:
    logits = torch.zeros(2000, engine._forbidden.shape[0])
    sampled = set(engine._choose(logits, SAMPLED, torch.linspace(0, 0.9999, 2000)).tolist())
    assert sampled == set(range(1, len(engine.tokenizer)))


def test_other_weights_give_the_answers_of_the_other_model(requests: list[Request]) -> None:
    config = EngineConfig(name="hf", dtype="float32", device="cpu")
    first, second = (open_engine(config, model_folder(f"bundled:{name}"), None) for name in ("student", "student"))
    torch.manual_seed(0)
    with torch.no_grad():
        for values in second.model.parameters():
            values.add_(torch.randn_like(values), alpha=0.05)
    expected = by_id(second.generate(requests[:8], GREEDY))
    assert by_id(first.generate(requests[:8], GREEDY)) != expected
    first.load_weights((name, values.clone()) for name, values in second.model.named_parameters())
    assert by_id(first.generate(requests[:8], GREEDY)) == expected


def test_weights_that_the_model_does_not_have_are_refused(engine: HFEngine) -> None:
    with pytest.raises(ValueError, match=r"nowhere is \(3,\) and in the model missing"):
        engine.load_weights([("nowhere", torch.zeros(3))])
    with pytest.raises(ValueError, match=r"model.norm.weight is \(3,\) and in the model \(\d+,\)"):
        engine.load_weights([("model.norm.weight", torch.zeros(3))])
