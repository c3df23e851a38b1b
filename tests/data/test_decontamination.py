from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import pytest
from conftest import thorough_after
from fork_server import ROOT

from micota.artifacts.jsonl import write_jsonl
from micota.config import SourceConfig
from micota.data.decontamination import Match, constants, find_matches, normal_form, reasons, shingles
from micota.data.sources import load_problems
from micota.records import Problem


@pytest.fixture(scope="module")
def measured() -> ModuleType:
    """The benchmark script, whose changes to problems are applied to a few problems here."""
    spec = importlib.util.spec_from_file_location("decontamination_benchmark", ROOT / "benchmarks/decontamination.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(text: str, answer: str, identity: str = "x") -> Problem:
    return Problem(id=identity, problem=text, answer=answer)


BENCHMARK = [
    problem(r"Compute $\sin ^{2} 4^{\circ}+\sin ^{2} 8^{\circ}+\cdots+\sin ^{2} 176^{\circ}$.",
            r"\frac{45}{2}", "sines"),
    problem("The point $(0,0)$ is reflected over the vertical line $x=1$.  When its image is then reflected over the "
            "line $y=2$, what is the resulting point?\n\nWrite your answer in the form $(x, y)$ where $x$ and $y$ are "
            "real numbers.", "(2,4)", "point"),
    problem("For how many two-digit primes is the sum of the digits equal to 8?", "3", "primes"),
    problem("What is the remainder when $1 + 2 + 3 + 4 + \\dots + 9 + 10$ is divided by 9?", "1", "remainder"),
    problem(r"For a constant $c,$ in cylindrical coordinates $(r,\theta,z),$ find the shape described by the equation"
            "\n" r"\[z = c.\](A) Line" "\n(B) Circle\n(C) Plane\n(D) Sphere\n\nEnter the letter of the correct option.",
            r"\text{(C)}", "shape"),
    problem("Max bought 16 stamps with snowflakes. He bought 3 more with trucks than with snowflakes, and 9 fewer with "
            "roses than with trucks. How many stamps did Max buy in all?", "45", "stamps"),
]  # fmt: skip


def rules_of(text: str, answer: str) -> list[tuple[str, str]]:
    return [(match.benchmark_id, match.rule) for match in find_matches([problem(text, answer)], {"b": BENCHMARK})]


@pytest.mark.parametrize(("one", "other"), [
    ("What is $x$ ?", "what  is\n$ x $"),
    (r"$\left( x, y \right)$ is given.", "$(x,y)$ is given"),
    (r"\[\dfrac{1}{2} \cdot 10{,}000\]", r"$\frac12 \times 10,\!000.$"),
    (r"$x^{2} \leq 3^{\circ}, \ldots$", r"$x^2 \le 3^\circ,\; \dots$"),
    ("it’s “so” – now", "it's \"so\" - now"),
    ("ﬁnd Ｘ", "find X"),
])  # fmt: skip
def test_normal_form_forgives_print(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(("one", "other"), [
    ("$f(1,2)$", "$f(12)$"), ("costs 1.5", "costs 15"), ("$x+1$", "$x-1$"), (r"\frac{1}{23}", r"\frac{12}{3}"),
    ("$2^{10}$", "$2^10$"), (r"$\sin x$", r"$\cos x$"),
])  # fmt: skip
def test_normal_form_keeps_what_matters(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


def test_constants_are_numbers_functions_and_greek_letters() -> None:
    text = r"Find $\sin 30^\circ + \frac{10,000}{3.5}\theta$ for three values. Express your answer to 2 decimal places."
    assert constants(text) == {"\\sin": 1, "30": 1, "10000": 1, "3.5": 1, "\\theta": 1, "3": 1}
    assert (
        constants(r"$\dfrac12 \binom 5{2}$")
        == constants(r"$\frac{1}{2} \binom{5}{2}$")
        == {"1": 1, "2": 2, "5": 1, "\\binom": 1}
    )
    assert constants("[asy] draw((0,0)--(1,7)); [/asy] What is the area?") == {}


def test_near_duplicates_are_found() -> None:
    assert rules_of(r"Compute $\sin^2 4^\circ + \sin^2 8^\circ + \dots + \sin^2 176^\circ.$", "22.5") == [
        ("sines", "exact")
    ]
    reflected = ("The point $(0,0)$ is reflected across the vertical line $x = 1$. Its image is then reflected across "
                 "the line $y=2$. What are the coordinates of the resulting point?")  # fmt: skip
    assert rules_of(reflected, "(2,4)") == [("point", "near_duplicate")]
    assert rules_of("For how many two-digit prime numbers is the sum of its digits 8?", "3") == [
        ("primes", "near_duplicate")
    ]


def test_other_problems_on_the_same_template_are_logged_and_kept() -> None:
    other_number = "What is the remainder when $1 + 2 + 3 + 4 + \\dots + 9 + 10$ is divided by 8?"
    assert rules_of(other_number, "7") == [("remainder", "similar")]
    by_chance = "What is the remainder when $3 + 5 + 7 + \\dots + 21 + 23$ is divided by 11?"
    assert ("remainder", "near_duplicate") not in rules_of(by_chance, "1")
    shape = BENCHMARK[4].problem.replace("[z = c", r"[\theta = c")
    assert rules_of(shape, r"\text{(C)}") == [("shape", "similar")]
    assert [rule for _, rule in rules_of(BENCHMARK[5].problem.replace("16", "11"), "45")] == ["similar"]


def test_unlike_problems_are_not_mentioned() -> None:
    assert rules_of("A rope of 12 metres is cut into 3 equal pieces. How long is each piece?", "4") == []
    assert rules_of("?", "1") == []
    assert find_matches([problem("What is $1+1$?", "2")], {}) == []


def test_exact_needs_no_equal_answer_and_comes_first_among_reasons() -> None:
    matches = find_matches([problem(BENCHMARK[2].problem, "three")], {"b": BENCHMARK})
    assert [match.rule for match in matches] == ["exact"]
    both = [*matches, Match(**vars(matches[0]) | {"rule": "near_duplicate"})]
    assert reasons(both[::-1]) == {"x": "exact"}
    assert reasons(both, "none") == {}
    pairs = [Match(**vars(matches[0]) | {"rule": "near_duplicate"}), Match(**vars(matches[0]) | {"rule": "similar"})]
    assert reasons(pairs) == {"x": "near_duplicate"} and reasons(pairs, "exact") == {}


def test_results_do_not_depend_on_the_order_of_problems() -> None:
    rows = [problem(row.problem, row.answer, f"train/{row.id}") for row in BENCHMARK]
    forward = find_matches(rows, {"b": BENCHMARK})
    assert find_matches(rows[::-1], {"b": BENCHMARK})[::-1] == forward
    assert {match.rule for match in forward} == {"exact"} and len(forward) == len(rows)


def test_quoted_restatements_agree_with_themselves(measured: ModuleType) -> None:
    """Each restatement quoted in the benchmark is matched among all when typeset otherwise; none matches another."""
    rows = [problem(text, answer, key) for key, (text, answer) in measured.QUOTED.items()]
    for change in (measured.printed, measured.spelt, measured.hinted, measured.reordered, measured.everything):
        changed = measured.perturbed({"olympiadbench": rows}, change, 0)
        pairs = [match for match in find_matches(changed, {"olympiadbench": rows}) if match.rule != "similar"]
        assert [(pair.problem_id, pair.benchmark_id) for pair in pairs] == [(row.id, row.id) for row in changed]


def test_the_toy_setting_repeats_no_problem() -> None:
    pool = load_problems(SourceConfig(path="bundled:train.jsonl", id_column="id"))
    tests = {
        f"{split}_{level}": load_problems(SourceConfig(path=f"bundled:{split}_{level}.jsonl", id_column="id"))
        for split in ("dev", "test")
        for level in ("easy", "medium", "hard")
    }
    assert reasons(find_matches(pool, tests), "exact") == {}


def test_benchmark_runs_on_a_small_folder(measured: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    for folder, names in (("bench", measured.BENCHMARKS), ("train", measured.POOLS)):
        (tmp_path / folder).mkdir()
        for name in names:
            write_jsonl(
                tmp_path / folder / f"{name}.jsonl",
                [problem(row.problem, row.answer, f"{name}/{row.id}") for row in BENCHMARK],
            )
    monkeypatch.setattr(
        "sys.argv", ["decontamination.py", "--data", str(tmp_path), "--alarms", str(tmp_path / "a.jsonl")]
    )
    measured.main()
    text = capsys.readouterr().out
    assert "micota: 6 dropped" in text and "printed: 30 problems; micota 100.0 %" in text
    assert (tmp_path / "a.jsonl").read_text().count('"exact"') == 60


@pytest.mark.parametrize("text", ["[asy]", " ", "^ ", "^{ ", "\n", "{ ", ". write the ", ", "])
@pytest.mark.parametrize("tail", thorough_after(1, [",", "", "x"]))
def test_work_is_linear_in_the_length(text: str, tail: str) -> None:
    def seconds(count: int) -> float:
        problem = "^" + text * (count // len(text)) + tail
        times = []
        for _ in range(3):
            start = time.process_time()
            shingles(problem), constants(problem)
            times.append(time.process_time() - start)
        return min(times)

    # Twice the length takes about twice as long; of anything quadratic, eight times the length takes 64 times as long.
    assert seconds(160_000) < 24 * seconds(20_000) + 0.05
