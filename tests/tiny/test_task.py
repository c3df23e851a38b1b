"""The task: the specified examples to the letter, and right answers on random chains."""

import random

import pytest

from micota.tiny.task import (
    LONG,
    SHORT,
    Chain,
    Habits,
    Question,
    parse_problem,
    sample_habits,
    sample_question,
    write_long,
    write_short,
    write_solution,
)

PROBLEM = "Ana has 9 pens:*9*3*2-6 mod 10?"
EXAMPLE = Question(Chain(9, (("*", 9), ("*", 3), ("*", 2), ("-", 6))), "Ana", "pens")
EXAMPLE_SHORT = r"""9*9=1.
1*3=3.
3*2=6.
6-6=0.
\boxed{0}"""
EXAMPLE_LONG = r"""Okay, let me think. Ana has 9.
First *9: 9*9=81, so 1. Wait, 9*9=81 ok.
Next *3: 1*3=3, so 3. Wait, 3*1=3 ok.
Next *2: 3*2=6, so 6.
Finally -6: 6-6=0, so 0. Wait, 0+6=6 ok. Hmm, 6-6=0 ok.
Check again: 9,1,3,6,0.
\boxed{0}"""


def test_example_problem() -> None:
    assert EXAMPLE.problem == PROBLEM
    assert EXAMPLE.answer == "0"
    assert parse_problem(PROBLEM) == EXAMPLE


def test_example_solutions() -> None:
    assert write_short(EXAMPLE) == EXAMPLE_SHORT
    habits = Habits(pre=True, ann=True, dec=True, num_checks=(1, 1, 0, 2), fin=True)
    assert write_solution(EXAMPLE, habits) == EXAMPLE_LONG


@pytest.mark.parametrize(
    ("start", "op", "expected"),
    [
        (7, ("+", 8), "7+8=15, so 5. Wait, 15-8=7 ok. Hmm, 7+8=15 ok."),
        (7, ("-", 8), "17-8=9, so 9. Wait, 9+8=17 ok. Hmm, 17-8=9 ok."),
        (7, ("*", 8), "7*8=56, so 6. Wait, 8*7=56 ok. Hmm, 7*8=56 ok."),
    ],
)
def test_steps_in_full(start: int, op: tuple[str, int], expected: str) -> None:
    question = Question(Chain(start, (op,)), "Mia", "nuts")
    assert write_solution(question, Habits(dec=True, num_checks=(2,))).splitlines()[0] == expected


def test_borrow_is_shown_only_in_full() -> None:
    assert write_short(Question(Chain(7, (("-", 8),)), "Mia", "nuts")).splitlines()[0] == "7-8=9."


def test_solutions_end_in_the_right_answer() -> None:
    rng = random.Random(0)
    for _ in range(500):
        question = sample_question(rng, rng.randint(1, 8))
        expression = str(question.chain.start)
        for operator, operand in question.chain.ops:
            expression = f"({expression}{operator}{operand})%10"
        answer = eval(expression)
        assert parse_problem(question.problem) == question
        for solution in (write_short(question), write_long(question, rng)):
            assert solution.endswith(rf"\boxed{{{answer}}}")


def test_habits_follow_their_probabilities() -> None:
    rng = random.Random(0)
    assert sample_habits(rng, SHORT, 3) == Habits(num_checks=(0, 0, 0))
    draws = [sample_habits(rng, LONG, 5) for _ in range(2000)]
    assert all(habits.pre and habits.ann and habits.dec for habits in draws)
    checks = [n for habits in draws for n in habits.num_checks]
    assert sum(n > 0 for n in checks) / len(checks) == pytest.approx(0.7, abs=0.02)
    assert sum(n == 2 for n in checks) / sum(n > 0 for n in checks) == pytest.approx(0.15, abs=0.02)
    assert sum(habits.fin for habits in draws) / len(draws) == pytest.approx(0.8, abs=0.03)


def test_sampling_is_seeded() -> None:
    assert sample_question(random.Random(3), 4) == sample_question(random.Random(3), 4)


@pytest.mark.parametrize("text", ["", PROBLEM + "\n", "Ana has 9 pens: mod 10?", "Ana has 12 pens:*9 mod 10?"])
def test_other_texts_are_no_problems(text: str) -> None:
    with pytest.raises(ValueError, match="not a problem"):
        parse_problem(text)
