"""Rows with the columns of published sets, and what becomes of their turns, thoughts and ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fork_server import ROOT

from micota.config.rows import RowsConfig
from micota.data.shapes import shape_of, training_rows
from micota.data.training_rows import TrainingRow, content_id
from micota.errors import SourceError
from micota.graph import Prompt

PROMPT = Prompt(template="Solve: {problem}", system="Be brief.")
CHAT = [{"from": "user", "value": "q"}, {"from": "assistant", "value": "a"}]
MARKED = "<|begin_of_thought|>\n\nhm\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n4\n\n<|end_of_solution|>"
# All columns of the sets, and the name of the shape, the number of training rows and the learnt text.
PUBLISHED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "openr1_math": ({
        "problem": "q", "solution": "s", "answer": "4", "problem_type": "Algebra", "question_type": "math-word-problem",
        "source": "olympiads", "uuid": "u", "is_reasoning_complete": [True, True],
        "generations": ["<think>a</think>4", "5"],
        "correctness_math_verify": [True, False], "correctness_llama": None, "finish_reasons": None,
        "correctness_count": 1, "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    }, "generations", ["<think>a</think>4", "5"]),
    "openthoughts": ({
        "problem": "q", "deepseek_reasoning": "hm", "deepseek_solution": "4", "ground_truth_solution": "long",
        "domain": "math",
        "source": "numina", "test_cases": None, "starter_code": None,
    }, "thought and answer", ["<think>\nhm\n</think>\n\n4"]),
    "openthoughts default": ({"system": "Think.", "conversations": [CHAT[0], {"from": "assistant", "value": MARKED}]},
                             "conversation", ["<think>\nhm\n</think>\n\n4"]),
    "openthoughts3": ({
        "difficulty": 3, "source": "x", "domain": "math",
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<think>a</think>4"}],
    }, "conversation", ["<think>a</think>4"]),
    "s1k": ({
        "question": "q", "solution": "a long proof", "cot_type": "math", "source_type": "x", "metadata": "{}",
        "deepseek_thinking_trajectory": "hm", "deepseek_attempt": "4", "deepseek_grade": "Yes",
        "gemini_thinking_trajectory": "uh", "gemini_attempt": "five",
    }, "thought and answer", ["<think>\nhm\n</think>\n\n4"]),
    "limo": ({"question": "q", "solution": "so 4", "answer": "4"}, "problem and solution", ["so 4"]),
    "s1k of one trajectory": ({
        "question": "q", "solution": "reference", "cot_type": "math", "thinking_trajectories": ["hm"], "attempt": "4",
    }, "thought and answer", ["<think>\nhm\n</think>\n\n4"]),
    "gsm8k": ({"question": "q", "answer": "2+2=<<2+2=4>>4\n#### 4"}, "question and worked answer",
              ["2+2=<<2+2=4>>4\n#### 4"]),
    "orca-math": ({"question": "q", "answer": "it is 4"}, "question and worked answer", ["it is 4"]),
    "openmath": ({"problem": "q", "generated_solution": "so 4", "expected_answer": 4, "inference_mode": "cot"},
                 "problem and solution", ["so 4"]),
    "openorca": ({"id": "q1", "system_prompt": "Think.", "question": "q", "response": "so 4"}, "problem and solution",
                 ["so 4"]),
    "joined": ({"system_prompt": None, "messages": [CHAT[0] | {"role": None}, {"role": "assistant", "value": "a"}]},
               "conversation", ["a"]),
    "uwnsl_long": ({"problem": "q", "solution": "so 4"}, "problem and solution", ["so 4"]),
}  # fmt: skip


def read(row: dict[str, Any], **settings: Any) -> list[TrainingRow]:
    return list(training_rows(row, "here", RowsConfig(path="x", **settings), PROMPT))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_are_known_by_their_columns(name: str) -> None:
    row, shape, completions = PUBLISHED[name]
    assert shape_of(row, "here", RowsConfig(path="x"))[0].name == shape
    rows = read(row)
    assert [each.completion for each in rows] == completions
    is_chat = shape == "conversation"
    asked = [turn["content"] for turn in rows[0].messages if turn["role"] == "user"]
    assert asked == ["q" if is_chat else "Solve: q"] and rows[0].questions == ["q"]
    assert rows[0].gold == ("4" if name in ("openr1_math", "limo", "gsm8k", "openmath") else None)
    system = [turn["content"] for turn in rows[0].messages if turn["role"] == "system"]
    assert system == (["Think."] if row.get("system", row.get("system_prompt")) else [] if is_chat else ["Be brief."])


def test_recipes_of_published_sets_have_the_revisions_that_are_known() -> None:
    options = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf/data").glob("*.yaml")}
    published = {name: option for name, option in options.items() if str(option.get("path", "")).startswith("hub:")}
    assert len(published) == 11 and all(name == option["name"] for name, option in published.items())
    unpinned = {name for name, option in published.items() if option["revision"] == "main"}
    assert unpinned == {"uwnsl_mix_large", "uwnsl_large", "uwnsl_small", "limo"}
    facts = Path(ROOT.parent / "shared/papers/hub.yaml")
    if not facts.exists():
        pytest.skip("the list of published sets is not beside the project")
    known = yaml.safe_load(facts.read_text())["datasets"]
    for option in published.values():
        assert option["revision"] == (known[option["path"].removeprefix("hub:")]["revision"] or "main"), option


def test_a_mapping_names_other_columns_and_leaves_fields_out() -> None:
    row, *_ = PUBLISHED["s1k"]
    columns: dict[str, str | None] = {"thought": "gemini_thinking_trajectory", "completion": "gemini_attempt"}
    assert read(row, columns=columns)[0].completion == "<think>\nuh\n</think>\n\nfive"
    nested = {"task": {"text": "q"}, "trace": "so 4", "answer": "not a gold", "messages": "not a chat"}
    [mapped] = read(nested, columns={"problem": "task.text", "completion": "trace", "gold": None})
    assert (mapped.questions, mapped.completion, mapped.gold) == (["q"], "so 4", None)
    with pytest.raises(SourceError, match=r"data.columns=\{problem: nope\}: there is no such column; it has task"):
        read(nested, columns={"problem": "nope", "completion": "trace"})


@pytest.mark.parametrize(("turns", "learn_all"), [("all", True), ("last", False)])
def test_a_conversation_of_several_turns_keeps_them_all(turns: str, learn_all: bool) -> None:
    chat = [{"role": "system", "content": "s"}, *({"role": r, "content": r} for r in ("human", "gpt", "user", "bot"))]
    [row] = read({"conversations": chat}, turns=turns)
    assert [turn["role"] for turn in row.messages] == ["system", "user", "assistant", "user"]
    assert (row.completion, row.learn_all, row.questions) == ("bot", learn_all, ["human", "user"])
    pairs = {"instruction": "user", "input": "more", "output": "bot", "history": [["human", "gpt"]], "system": "s"}
    [same] = read(pairs, turns=turns)
    assert [turn["content"] for turn in same.messages] == ["s", "human", "gpt", "user\nmore"]
    assert same.learn_all == learn_all


@pytest.mark.parametrize(("marks", "learn_all"), [((None, None), True), ((1, 1), True), ((False, True), False)])
def test_marks_of_turns_choose_what_is_learnt(marks: tuple[Any, Any], learn_all: bool) -> None:
    turns = [turn | {"weight": mark} for mark in marks for turn in CHAT]
    [row] = read({"conversations": [{"role": "system", "content": ""}, *turns]})
    assert (row.learn_all, len(row.messages)) == (learn_all, 3), "an empty system text is none"


@pytest.mark.parametrize(("facts", "correct", "reason"), [
    ({"correct": False}, False, "stop"), ({"is_correct": "True"}, True, "stop"), ({"label": 3}, None, "stop"),
    ({"correct": "4"}, None, "stop"), ({"finish_reason": "max_tokens"}, None, "length"),
    ({"stop_reason": "eos"}, None, "stop"), ({"finish_reason": None}, None, "stop"),
])  # fmt: skip
def test_every_row_may_have_a_verdict_and_the_reason_of_its_end(facts: Any, correct: Any, reason: str) -> None:
    for row in ({"problem": "q", "solution": "a"}, {"prompt": "q", "completion": "a"}, {"messages": CHAT}):
        [answer] = read(row | facts)
        assert (answer.correct, answer.finish_reason) == (correct, reason)


def test_thoughts_of_turns_get_their_tags() -> None:
    answer = {"role": "assistant", "content": "4", "reasoning_content": "hm"}
    [row] = read({"messages": [{"role": "user", "content": "q"}, answer]})
    assert row.completion == "<think>\nhm\n</think>\n\n4"


def test_a_missing_id_is_that_of_the_question_in_every_set() -> None:
    ids = {read(row)[0].problem_id for row in ({"problem": "q", "solution": "a"}, {"question": "q", "output": "b"})}
    assert ids == {content_id(["q"])} == {read({"prompt": "q", "completion": "a"})[0].problem_id}
    assert read({"prompt": "q", "completion": "a", "id": 7})[0].problem_id == "7"
    assert read({"prompt": "q", "completion": "a", "id": 7.0})[0].problem_id == "7", "pandas makes floats"
    assert {read({"problem": "q", "solution": "a", "id": "  "})[0].problem_id} == ids


def test_verdicts_of_another_number_than_the_answers_judge_none() -> None:
    row = {"problem": "q", "generations": ["a", "b"], "correctness_math_verify": [True], "is_reasoning_complete": []}
    assert [(each.correct, each.finish_reason) for each in read(row)] == [(None, "stop"), (None, "stop")]


def test_verdicts_may_be_numbers_or_words() -> None:
    row = {"problem": "q", "generations": '["a", "b", "c"]', "correctness": [1, "False", None]}
    assert [each.correct for each in read(row | {"is_reasoning_complete": ["true", "false", True]})] == [
        True,
        False,
        None,
    ]
    assert [each.finish_reason for each in read(row | {"finish_reasons": ["STOP", "max_tokens", None]})] == [
        "stop", "length", "stop",
    ]  # fmt: skip
