r"""Wrong answers near a gold are not accepted, and other spellings of a gold are: on golds of every form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from micota.grading.equality.compare import compare, no_worker
from micota.grading.gold import gold_of
from micota.grading.graders import Submission, cheap_verdict, extraction
from micota.records import Problem

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BENCHES = ("bench/math500", "bench/aime24", "bench/amc23", "bench/olympiadbench", "bench/gsm8k")
GOLDS = r"""
0;7;-12;3/4;\frac{14}{3};-\frac{1}{2};2\frac{2}{3};0.45;1,234;10,\!080;\$32,\!348;75\%;90^\circ;5.4 \text{ cents}
12\text{ cm}^2;864 \mbox{ inches}^2;2\sqrt{3};\frac{\sqrt{21}}{5};6 - 5i;3\pi;e^{2};2^{1009};52_8;\sqrt[3]{4}
(3,4];[0,\infty);(-\infty, 2) \cup (3, \infty);[-2,7];(0,1);x \in [-2,7];\left(\frac{3}{5},\frac{8}{3}\right];(2,5)
(6,31,-1);(1, \frac{\pi}{2});\left( \frac{1}{2}, -3 \right);\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix};\{1,2,5\};-2, 3, 9;1 \pm \sqrt{19};f(x)=2x+1;y = 2x + 3;x^2-2x+1;2x+3y=7
\frac{n(n+1)}{2};\binom{2n}{n};2^{n+1}-1;\lfloor n/2 \rfloor;\frac{x+2}{7};5x - 7y + 11z + 4 = 0;\tan x;k\pi;\log_2 7
"""
# Mutated golds that are accepted because they are equal: -0 is 0, and the variable of a function may have any name.
EQUAL = frozenset({("0", "-0"), ("f(x)=1", "f(w)=1")})


def golds() -> list[str]:
    """Golds of every form, and those of five benchmarks where they are at hand."""
    own = [gold for line in GOLDS.strip().splitlines() for gold in line.split(";")]
    paths = [DATA / f"{bench}.jsonl" for bench in BENCHES]
    rows = [line for path in paths if path.exists() for line in path.open(encoding="utf-8")]
    return list(dict.fromkeys([*own, *(json.loads(row)["answer"] for row in rows)]))


def mutations(gold: str) -> Iterator[str]:
    """The gold with another closing bracket, sign, digit, variable or member."""
    closing = list(re.finditer(r"(?<!\\)[)\]](?=\s*$|\s*\\cup)", gold))
    if closing and "," in gold and re.match(r"(?:\\left)?\s*[(\[]", gold):
        end = closing[-1].start()
        yield gold[:end] + ("]" if gold[end] == ")" else ")") + gold[end + 1 :]
    if gold.startswith("-"):
        yield gold[1:]
    elif re.match(r"\d|\\[dt]?frac|\\sqrt", gold):
        yield "-" + gold
    inner = re.search(r"(?<=[\w})\s])([+-])(?=[\s\w\\])", gold)
    if inner:
        yield gold[: inner.start()] + ("-" if inner[0] == "+" else "+") + gold[inner.end() :]
    digits = [match.start() for match in re.finditer(r"\d", gold)]
    for position in dict.fromkeys((digits[0], digits[-1]) if digits else ()):
        yield gold[:position] + str((int(gold[position]) + 1) % 10) + gold[position + 1 :]
    bare = re.sub(r"\\[a-zA-Z]+(?:\{[a-z]+\})?|\\(?:text|mbox)\{[^}]*\}", lambda match: "\0" * len(match[0]), gold)
    names = list(re.finditer(r"(?<![a-zA-Z\\{])([a-zA-Z])(?![a-zA-Z(])", bare))
    if names:
        yield gold[: names[-1].start()] + ("v" if names[-1][0] == "w" else "w") + gold[names[-1].end() :]
    if re.fullmatch(r"(?:\\\{)?[^()\[\]{}]+,[^()\[\]{}]+(?:\\\})?", gold) and gold_of(gold).kind == "list":
        end = r"\}" if gold.endswith(r"\}") else ""
        yield gold.rpartition(",")[0] + end
        yield gold.removesuffix(r"\}") + ", 77" + end


def test_what_is_near_a_gold_is_not_accepted() -> None:
    accepted = []
    count = 0
    for answer in golds():
        gold = gold_of(answer)
        for mutated in mutations(answer):
            count += 1
            if mutated != answer and compare(gold, mutated, no_worker) is True:
                accepted.append((answer, mutated))
    assert count > 150
    assert {pair for pair in accepted if pair not in EQUAL and not re.match(r"-0(?:,|$)", pair[1])} == set()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "box": lambda gold: rf"\boxed{{{gold}}}",
    "sentence": lambda gold: f"Therefore the answer is $\\boxed{{{gold}}}$.",
    "display fractions": lambda gold: "\\[\\boxed{" + re.sub(r"\\[dtc]?frac", r"\\dfrac", gold) + "}\\]",
    "spaced": lambda gold: "So \\(\\boxed { " + re.sub(r"(?<![\\a-zA-Z])([=+])", r" \\, \1 \\; ", gold) + " }\\)",
    "sized brackets": lambda gold: "$$\\boxed{\\displaystyle " + sized(gold) + "}$$",
    "answer is": lambda gold: f"So the answer is ${gold}$.",
    "unboxed": lambda gold: f"So the answer is {gold}.",
    "final answer": lambda gold: f"Final Answer: The final answer is ${gold}$. I hope it is correct.",
    "hash marks": lambda gold: f"Thus.\n#### {gold}",
    "JSON": lambda gold: json.dumps({"reasoning": "x", "answer": gold}),
    "thought": lambda gold: f"<think>\nMaybe \\boxed{{17771}}?\n</think>\n\nThe answer is \\boxed{{{gold}}}.",
    "Chinese": lambda gold: f"所以答案是 ${gold}$。",
    "bold": lambda gold: f"**Answer:** **{gold}**",
    "last formula": lambda gold: f"Hence the value is ${gold}$.",
}


def sized(gold: str) -> str:
    if r"\left" in gold:
        return gold
    return re.sub(r"(?<!\\)\(", r"\\left(", re.sub(r"(?<!\\)\)", r"\\right)", gold))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_a_gold_are_accepted(spelling: str) -> None:
    missed = []
    for answer in golds():
        problem = Problem(id="", problem="", answer=answer)
        verdict = cheap_verdict(problem, extraction(Submission(problem, SPELLINGS[spelling](answer))))
        if verdict is None or verdict.correct is not True:
            missed.append((answer, verdict))
    assert missed == []


@pytest.mark.skipif(not (DATA / "bench").exists(), reason="needs the benchmarks of shared/data")
def test_reference_solutions_state_their_answers() -> None:
    rows = [json.loads(line) for line in (DATA / "bench" / "math500.jsonl").open(encoding="utf-8")]
    missed = []
    for row in rows:
        problem = Problem(id=row["id"], problem=row["problem"], answer=row["answer"])
        verdict = cheap_verdict(problem, extraction(Submission(problem, row["solution"])))
        if verdict is None or verdict.correct is not True:
            missed.append((row["id"], verdict))
    assert len(rows) == 500 and missed == []
