from __future__ import annotations

from dataclasses import replace

import pytest

from micota.config import SelectConfig
from micota.data.filters import Filters
from micota.records import Completion, Problem
from micota.runtime.progress import GenerationProgress, Tally

GOLDS = {"0": Problem(id="0", problem="3+4", answer="7")}
RIGHT = Completion(
    problem_id="0", sample=0, prompt_hash="h", completion=r"\boxed{7}", finish_reason="stop", num_prompt_tokens=3,
    num_tokens=5, seconds=0.1,
)  # fmt: skip
WRONG = replace(RIGHT, completion=r"\boxed{8}", sample=1)
LONG = replace(RIGHT, num_tokens=99, sample=2)


def test_what_is_accepted_is_what_the_filters_keep_or_what_is_right() -> None:
    filters = Filters(SelectConfig(filters=["finished", "correct", "length"], max_tokens=10))
    of_data, of_benchmark = Tally(GOLDS, filters), Tally(GOLDS, None)
    for tally in (of_data, of_benchmark):
        assert tally.rate is None
        for row in (RIGHT, WRONG, LONG, replace(RIGHT, problem_id="unknown")):
            tally.add(row)
    assert of_data.rate == pytest.approx(1 / 3) and of_benchmark.rate == pytest.approx(2 / 3)


def test_rates_are_those_of_this_run_and_the_end_is_reported() -> None:
    shown: list[str] = []
    reported: list[dict[str, float]] = []
    progress = GenerationProgress(4, [RIGHT, WRONG], Tally(GOLDS, None), shown.append, reported.append)
    assert progress.state().keys() == {"done", "mean_tokens", "accept_rate"}
    progress.add(RIGHT)
    state = progress.state()
    seconds = state["eta_s"]  # one came in and one is missing
    assert state["done"] == 3 and state["tokens_per_s"] == pytest.approx(5 / seconds, rel=0.05) and not reported
    progress.add(LONG)
    assert reported[-1]["done"] == 4 and reported[-1]["eta_s"] == 0 and reported[-1]["accept_rate"] == 0.75
    assert shown[-1].startswith("28 tokens each, ") and shown[-1].endswith(" left, 75% accepted")
    assert progress.metrics()["num_tokens"] == pytest.approx(28.5)
