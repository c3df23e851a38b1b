from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from micota.config import FILTERS, Filter, SelectConfig, ThinkingConfig
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


PROSE = " ".join(f"step {number} adds {number * 7} to the sum" for number in range(40))


@pytest.mark.parametrize("text", [
    "等等，让我再检查一下这个计算。" * 20,
    "wait,let-me-check;" * 30,
    " ".join(f"Wait, let me check that again (attempt {number})." for number in range(40)),
], ids=["cjk", "no_spaces", "counter"])  # fmt: skip
def test_loops_that_words_do_not_show_are_dropped(text: str) -> None:
    filters = Filters(SelectConfig(filters=["loops"]))
    assert filters.reason_to_drop(completion(text), RIGHT) == "loops"
    assert filters.reason_to_drop(completion(f"{PROSE} {text[: len(text) // 10]}"), RIGHT) is None
    assert filters.reason_to_drop(completion("7, \ud800"), RIGHT) is None, "half a character"


@pytest.mark.parametrize("counter", [
    "Attempt {}: this value does not work, so I try the next value. ", "第{}次尝试：这个值不行，所以我们再试下一个。",
])  # fmt: skip
def test_a_loop_with_a_counter_after_ordinary_text_is_dropped(counter: str) -> None:
    """The whole is compressed less than one in 8 bytes."""
    filters = Filters(SelectConfig(filters=["loops"]))
    random.seed(0)
    ordinary = " ".join("".join(random.choices("etaoinshr", k=5)) for _ in range(500))
    loop = "".join(counter.format(number) for number in range(150))
    assert filters.reason_to_drop(completion(ordinary + loop), RIGHT) == "loops"
    assert filters.reason_to_drop(completion(ordinary + loop[:800]), RIGHT) is None, "less than half"


def test_the_limit_of_compression_can_be_off() -> None:
    counter = " ".join(f"Wait, let me check that again (attempt {number})." for number in range(40))
    filters = Filters(SelectConfig(filters=["loops"], loop_compression=None))
    assert filters.reason_to_drop(completion(counter), RIGHT) is None


@pytest.mark.parametrize(("text", "language", "reason"), [
    ("Let me add both numbers. The first one is three, and the second one is four.", "en", None),
    ("<think>\nFirst we note that $x$ is odd.\n</think>\n\\[ \\frac{a}{b} \\]\nSo \\boxed{7}.", "en", None),
    ("x = 3, y = 4, z = 5", "en", None),
    ("让我们计算三加四，所以答案是七。", "en", "other_language"),
    ("让我们计算三加四，所以答案是七。", "zh", None),
    ("Let me add them. 让我们先把两个数字相加，然后再检查答案。 So it is seven.", "en", "other_language"),
    ("Zuerst addieren wir beide Zahlen, und dann prüfen wir das Ergebnis noch einmal.", "en", "other_language"),
])  # fmt: skip
def test_text_of_another_language_is_dropped(text: str, language: str, reason: str | None) -> None:
    filters = Filters(SelectConfig(filters=["language"], language=language))
    assert filters.reason_to_drop(completion(text), RIGHT) == reason


def test_a_language_that_cannot_be_told_is_refused(composed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"language='xx'; accepted: one of .*de, .*, zu"):
        composed("generate", "select.filters=[language]", "select.language=xx")


@pytest.mark.parametrize(("text", "reason"), [
    ("<think>\nso it is 7", "unended_thought"), ("so it is \\boxed{7}\n</think>\n", "no_answer"),
    ("Well. <think>\nso it is 7", "unended_thought"), ("<think>so</think>no<think>\nso it is 7", "unended_thought"),
])  # fmt: skip
def test_a_thought_without_an_answer_is_not_correct(text: str, reason: str) -> None:
    tags = ThinkingConfig(open="<think>", close="</think>")
    filters = Filters(SelectConfig(filters=["correct"]), tags)
    row = replace(completion(text), prefilled="" if "<think>" in text else "<think>\n")
    assert filters.reason_to_drop(row, RIGHT) == reason
    assert filters.reason_to_drop(completion("<think>so</think>7"), RIGHT) is None
    assert filters.reason_to_drop(completion("so 7"), RIGHT) is None


def test_tags_that_no_config_names_count_too() -> None:
    filters = Filters(SelectConfig(filters=["correct"]))
    assert filters.reason_to_drop(completion("<think>\nso it is 7"), RIGHT) == "unended_thought"
    assert filters.reason_to_drop(completion("<thought>so it is 7</thought>\n"), RIGHT) == "no_answer"
    assert filters.reason_to_drop(completion("<thought>so</thought>7"), RIGHT) is None
    assert filters.reason_to_drop(completion("The tag <think> is 7"), RIGHT) is None
    assert filters.reason_to_drop(completion("Well. <think>\nso it is 7"), RIGHT) == "unended_thought"
    assert filters.reason_to_drop(completion("<think>so</think>no <think> it is 7"), RIGHT) == "unended_thought"
    assert filters.reason_to_drop(completion("so it is \\boxed{7}\n</think>\n"), RIGHT) == "no_answer"


def test_the_sample_nearest_to_a_length_is_kept(composed: Callable[..., Any]) -> None:
    rows = [completion("7", sample=sample, tokens=tokens) for sample, tokens in enumerate([9, 3, 5, 7])]
    assert [row.sample for row in best(rows, "nearest", 6)] == [2], "of two equally near the shorter"
    assert [row.sample for row in best(rows, "nearest", 100)] == [0]
    with pytest.raises(ConfigError, match=r"keep_sample=nearest and keep_length=null; accepted: a number of tokens"):
        composed("generate", "select.keep_sample=nearest")
