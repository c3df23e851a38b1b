from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from micota.config import FILTERS, Filter, SelectConfig
from micota.data.filters import Check, Filters, best
from micota.errors import ConfigError
from micota.records import Completion, Verdict

RIGHT = Verdict(prediction="7", correct=True, reason="integer")
WRONG = Verdict(prediction="8", correct=False, reason="integer")


def completion(text: str, problem: str = "a", sample: int = 0, tokens: int = 5, reason: str = "stop") -> Completion:
    return Completion(
        problem_id=problem, sample=sample, prompt_hash="h", completion=text, finish_reason=reason,
        num_prompt_tokens=3, num_tokens=tokens, seconds=0.1,
    )  # fmt: skip


def test_repetitive_text_is_dropped() -> None:
    filters = Filters(SelectConfig(filters=["loops"]))
    circle = "Wait, let me check that again: 3 plus 4 is 7. "
    prose = " ".join(f"step {number} adds {number * 7} to the sum" for number in range(40))
    assert filters.reason_to_drop(completion(circle * 6), RIGHT) == "loops"
    assert filters.reason_to_drop(completion(prose), RIGHT) is None
    assert filters.reason_to_drop(completion(prose + circle * 2), RIGHT) is None, "one repetition is no loop"
    assert filters.reason_to_drop(completion("7"), RIGHT) is None, "shorter than one sequence of words"
    strict = Filters(SelectConfig(filters=["loops"], loop_words=3, loop_share=0.0))
    assert strict.reason_to_drop(completion("a b c a b c"), RIGHT) == "loops"


def test_duplicates_are_of_one_problem_and_count_where_the_filter_stands() -> None:
    filters = Filters(SelectConfig(filters=["correct", "duplicates"]))
    assert filters.reason_to_drop(completion("so 7"), WRONG) == "incorrect"
    assert filters.reason_to_drop(completion("so 7", sample=1), RIGHT) is None, "the first one did not get that far"
    assert filters.reason_to_drop(completion("so\n 7", sample=2), RIGHT) == "duplicate"
    assert filters.reason_to_drop(completion("so 7", problem="b"), RIGHT) is None


@pytest.mark.parametrize(("order", "reason"), [
    (["length", "finished"], "too_long"), (["finished", "length"], "not_finished_length"), (["correct"], None),
])  # fmt: skip
def test_the_first_filter_in_order_gives_the_reason(order: list[str], reason: str | None) -> None:
    filters = Filters(SelectConfig(filters=order, max_tokens=4))
    assert filters.reason_to_drop(completion("7", reason="length"), RIGHT) == reason


def test_keep_sample_chooses_among_several() -> None:
    lengths = {"a": [9, 3, 5, 3], "b": [4, 2, 8], "c": [6]}
    rows = [
        completion("7", problem, sample, tokens)
        for problem, samples in lengths.items()
        for sample, tokens in enumerate(samples)
    ]
    assert [(row.problem_id, row.sample) for row in best(rows, "shortest")] == [("a", 1), ("b", 1), ("c", 0)]
    assert [(row.problem_id, row.sample) for row in best(rows, "median")] == [("a", 3), ("b", 0), ("c", 0)]
    assert best(rows, "all") == rows


def short(select: SelectConfig) -> Check:
    """Drop completions that are too short to be reasoning."""
    return lambda completion, verdict: "too_short" if completion.num_tokens < 3 else None


SHORT = Filter(name="short", open=short, reasons=("too_short",))


@pytest.mark.usefixtures("open_tables")
def test_a_filter_is_one_entry(composed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="accepted: a list of filters out of finished, correct, length, loops, dupl"):
        composed("generate", "select.filters=[finished,short]")
    FILTERS.add(SHORT)
    filters = Filters(composed("generate", "select.filters=[finished,short]").select)
    rows = [completion("7", tokens=2, reason=reason) for reason in ("length", "stop")] + [completion("7", tokens=3)]
    assert [filters.reason_to_drop(row, RIGHT) for row in rows] == ["not_finished_length", "too_short", None]


@pytest.mark.usefixtures("open_tables")
@pytest.mark.parametrize(("changes", "words"), [
    ({"reasons": ()}, "filter 'short' names no reason"),
    ({"settings": ("min_tokens",)}, "filter 'short' reads select.min_tokens, which is no setting"),
    ({"name": "length"}, "filter 'length' is added twice"),
])  # fmt: skip
def test_a_half_added_filter_is_refused_at_once(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        FILTERS.add(replace(SHORT, **changes))
