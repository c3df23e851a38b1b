"""All graders on a completion, on hostile text, and on real outputs where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import hostile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from micota.config import GRADERS, Grader
from micota.errors import ConfigError
from micota.grading.graders import Graders, Submission, cheap_verdict, prediction
from micota.records import Problem, Verdict

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "grading" / "real_outputs.jsonl"
HALF = Problem(id="0", problem="", answer=r"\frac{1}{2}")


def test_every_grader_gives_a_verdict(graders: Graders) -> None:
    by = graders.grade([Submission(Problem(id="0", problem="", answer="10000"), r"\boxed{10{,}000}")])[0]
    assert by["typed"] == Verdict(prediction="10{,}000", correct=True, reason="rule (box)")
    assert by["paper_rule"] == Verdict(prediction="10{,}000", correct=False, reason="rule")


def test_missing_and_ungradable_are_not_wrong(graders: Graders) -> None:
    missing, strange = graders.grade([Submission(HALF, "I do not know"), Submission(HALF, r"\boxed{\frac{1}{\sqrt{}")])
    assert missing["typed"].correct is None and missing["typed"].reason == "no_answer"
    assert strange["typed"].prediction is None
    odd = graders.typed([(Problem(id="", problem="", answer=r"\sqrt{2}"), r"\frac{\sqrt{2}")])[0]
    assert odd.prediction is not None and odd.correct is None and odd.reason.startswith("ungradable")


def test_the_last_number_of_what_was_cut_off_is_no_answer(graders: Graders) -> None:
    three = Problem(id="0", problem="", answer="3")
    whole, cut, declared = graders.grade([
        Submission(three, "so 1 + 2 = 3"), Submission(three, "so 1 + 2 = 3", False), Submission(three, "A: 3", False),
    ])  # fmt: skip
    assert [by["typed"].correct for by in (whole, cut, declared)] == [True, None, True]


def test_the_same_comparison_is_made_once(graders: Graders) -> None:
    graders.forget()
    half = Problem(id="0", problem="", answer=r"\frac{1}{2}")
    verdicts = graders.typed([(half, r"\int_0^1 x dx")] * 3)
    assert [verdict.correct for verdict in verdicts] == [True] * 3 and len(graders._known) == 1


def test_a_gold_that_does_not_parse_is_ungradable_in_a_pool(graders: Graders) -> None:
    verdict = graders.grade([Submission(Problem(id="0", problem="", answer=r"\frac{1"), r"\boxed{1}")])[0]["typed"]
    assert verdict.correct is None and "braces do not match" in verdict.reason


def test_unreadable_golds_are_listed(graders: Graders) -> None:
    golds = ["1", r"\sqrt{2}", "(1, x)", r"t(0,4]", r"f(x)=a \mho"]
    problems = [Problem(id=gold, problem="", answer=gold, answer_type="auto") for gold in golds]
    assert {problem.id for problem in graders.unreadable(problems)} <= {r"t(0,4]", r"f(x)=a \mho"}


def test_hostile_completions_cost_one_answer_each() -> None:
    rows = list(hostile(300, seed=1, longest=20_000))
    with Graders(num_workers=1, seconds=1.0, memory_bytes=2**30) as graders:
        verdicts = graders.grade(rows)
    assert len(verdicts) == len(rows)
    assert all(by["typed"].correct in (True, False, None) for by in verdicts)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.characters() | st.sampled_from("\\{}()[]^_$&,.;0123456789x"), max_size=300))
def test_any_text_has_a_verdict_or_a_question(text: str) -> None:
    for answer in ("7", r"\frac{1}{2}", "1,2", "(1,2)", "[0,1)", r"\text{east}", "x+1"):
        problem = Problem(id="", problem="", answer=answer)
        for completion in (text, rf"\boxed{{{text}}}", f"answer is {text}"):
            verdict = cheap_verdict(problem, prediction(Submission(problem, completion)))
            assert verdict is None or verdict.correct in (True, False, None)


@pytest.mark.skipif(not REAL.exists(), reason="needs the real outputs of shared/data")
def test_real_outputs(graders: Graders) -> None:
    rows = [json.loads(line) for line in REAL.open(encoding="utf-8")]
    trusted = [row for row in rows if not row["meta"].get("verdict_doubtful")]
    problems = [Submission(Problem(id=row["id"], problem="", answer=row["gold"]), row["response"]) for row in trusted]
    verdicts = [by["typed"].correct is True for by in graders.grade(problems)]
    disputed = {row["id"] for row, mine in zip(trusted, verdicts, strict=True) if mine != row["source_correct"]}
    # Right answers in a form that the source could not read: `**answer**: "7"` and the like, read one by one.
    assert disputed <= {
        "zeroeval-math-l5/Athene-70B/140",
        "zeroeval-math-l5/Phi-3.5-mini-instruct/114",
        "zeroeval-math-l5/Phi-3.5-mini-instruct/542",
        "zeroeval-math-l5/Qwen2.5-3B-Instruct/114",
    }


def by_last_word(graders: Graders, rows: Sequence[Submission], rule: str) -> list[Verdict]:
    """Right where the last word is the gold."""
    words = [row.completion.split()[-1] for row in rows]
    return [
        Verdict(prediction=word, correct=word == row.problem.answer, reason="rule")
        for word, row in zip(words, rows, strict=True)
    ]


LAST_WORD = Grader(name="last_word", verdicts=by_last_word)


@pytest.mark.usefixtures("open_tables")
def test_a_grader_is_one_entry(composed: Callable[..., Any], graders: Graders) -> None:
    with pytest.raises(ConfigError, match=r"grader='last_word'; accepted: one of typed, paper_rule, judge"):
        composed("evaluate", "evaluation.grader=last_word")
    GRADERS.add(LAST_WORD)
    assert composed("evaluate", "evaluation.grader=last_word").evaluation.grader == "last_word"
    problem = Problem(id="a", problem="3 + 4?", answer="7")
    [by] = graders.grade([Submission(problem, "it is $7$, or 8")])
    assert list(by) == ["typed", "paper_rule", "last_word"]
    assert by["last_word"] == Verdict(prediction="8", correct=False, reason="rule")


@pytest.mark.usefixtures("open_tables")
@pytest.mark.parametrize(("changes", "words"), [
    ({"verdicts": None}, "grader 'last_word' has no verdicts"), ({"name": "typed"}, "grader 'typed' is added twice"),
])  # fmt: skip
def test_a_half_added_grader_is_refused_at_once(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        GRADERS.add(replace(LAST_WORD, **changes))
