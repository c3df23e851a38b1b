r"""Ten thousand hostile completions through the graders: no crash, no hang, memory within its limit.

    python benchmarks/hostile.py [--rows 10000] [--seconds 2] [--memory-mb 1024]

Generated from a seed: towers of powers, floods of digits and braces, broken UTF-8, code in every dress, LaTeX that
reads files, endless sums, and random mixtures of their pieces. Prints outcomes, the slowest chunk, workers replaced,
and the peak memory of the grading process and of any worker.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator

from micota.grading.graders import Graders, Submission
from micota.records import Problem

GOLDS = (
    "42", "\\frac{1}{2}", "2\\sqrt{3}", "(1, 2)", "[0, 1)", "1,-2", "x^2+1", "\\text{east}", "90^\\circ",
    "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\{1\\pm\\sqrt{5},-2\\}", "(-\\infty, 2) \\cup (3, \\infty)", "52_8",
)  # fmt: skip
PIECES = (
    "9^{9^{9^9}}", "9^9^9^9^9", "10^{10^{10}}", "1000000!", "((((2!)!)!)!)!", "\\sqrt{\\sqrt{\\sqrt{2}}}", "\x00",
    "\ud800", "\udfff\ud800", "\\input{/etc/passwd}", "\\write18{rm -rf ~}", "\\csname foo\\endcsname",
    "__import__('os').system('true')", "exec('raise SystemExit')", "().__class__.__bases__[0].__subclasses__()",
    "lambda: 0", "${7*7}", "{{7*7}}", "%s%n", "'; DROP TABLE scores; --", "<script>alert(1)</script>",
    "\\sum_{n=1}^{10^9} n", "\\int_0^1 x^{x^{x}} dx", "\\prod_{k=1}^{99999} k", "\\lim_{x\\to0} \\frac{\\sin x}{x}",
    "\\binom{10^6}{5\\cdot10^5}", "x^{1000}+y^{1000}", "(a+b)^{500}", "(x+y+z)^{60}", "\\frac{1}{0}", "0^0", "1/0",
    "\\infty-\\infty", "NaN", "1e999999", "-0", "\u202e42", "４２", "४२", "∞", "½", "√", "²", "\u200b4\u200b2",
    "\\boxed", "\\boxed{", "}", "{", "\\left(", "\\right)", "$", "$$", "\\(", "\\]", "\\", "\\\\", "&", "^", "_",
    "\\pm\\pm\\pm", "\\cup\\cup", "[", "(", ",,,,", ";", "=", "==", "<", ">", "\\text{", "\\text{and}",
    "\"answer\": \"", "Final Answer:", "####", "A:", "```output\n", "</think>", "<|im_end|>", "\r", "\n",
    "\\sin^{-1}(\\cos(\\tan(x)))", "\\log_{0}(1)", "i^{i^{i}}", "e^{e^{e^{e^{79}}}}", "\\begin{pmatrix} 1 & 2",
    "\\end{pmatrix}", "\\frac{\\frac{\\frac{1}{2}}{3}}{4}", "\\sqrt[10^9]{2}", "(1,2,3", "x \\in \\mathbb{R}",
    "\\forall x \\exists y", "2^{2^{2^{2}}}",
)  # fmt: skip
FLOODS = (
    lambda n: "7" * n, lambda n: "{" * n, lambda n: "\\boxed{" * n, lambda n: "\\boxed{" * n + "1" + "}" * n,
    lambda n: "(" * n + "1" + ")" * n, lambda n: "-" * n + "1", lambda n: "\\frac{1}{" * n + "2" + "}" * n,
    lambda n: "1+" * n + "1", lambda n: "\\sqrt{" * n + "2" + "}" * n, lambda n: "^2" * n, lambda n: "1," * n,
    lambda n: "\\text{" * n, lambda n: '"answer": "' * n, lambda n: "answer is " * n, lambda n: "\\\\" * n,
    lambda n: " " * n, lambda n: "$" * n, lambda n: "\x00" * n, lambda n: "\ud800" * n, lambda n: "a_" * n,
    lambda n: "1 " * n, lambda n: "!" * n, lambda n: "####" * n, lambda n: "\\pm " * n, lambda n: "(1,2)\\cup" * n,
    lambda n: "x=" * n, lambda n: "0." * n,
)  # fmt: skip

DRESSES = ("{}", "\\boxed{{{}}}", "$\\boxed{{{}}}$", "Final Answer: {}", '{{"answer": "{}"}}', "#### {}")


def hostile(rows: int, seed: int = 0, longest: int = 100_000) -> Iterator[Submission]:
    """Problems with hostile completions; the same for the same seed."""
    chance = random.Random(seed)
    for index in range(rows):
        gold = GOLDS[index % len(GOLDS)]
        kind = index % 10
        if kind == 0:
            text = chance.choice(FLOODS)(int(10 ** chance.uniform(1, 5)) % longest + 1)
        elif kind == 1:
            text = "".join(chr(chance.choice((chance.randrange(128), chance.randrange(0x110000)))) for _ in range(200))
        elif kind < 6:
            text = "".join(chance.choices((*PIECES, *GOLDS), k=chance.randint(1, 6)))
        else:
            text = gold
            for _ in range(chance.randint(1, 4)):  # a right answer with random edits
                position = chance.randrange(len(text) + 1)
                text = text[:position] + chance.choice(PIECES) + text[position + chance.randrange(2) :]
        dress = chance.choice(
            ("{}", "\\boxed{{{}}}", "$\\boxed{{{}}}$", "Final Answer: {}", '{{"answer": "{}"}}', "#### {}")
        )
        yield Submission(Problem(id=str(index), problem="", answer=gold), dress.format(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    rows = list(hostile(options.rows))
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    start = time.perf_counter()
    with Graders(
        num_workers=options.workers, seconds=options.seconds, memory_bytes=options.memory_mb * 2**20
    ) as graders:
        for first in range(0, len(rows), 100):
            began = time.perf_counter()
            for by in graders.grade(rows[first : first + 100]):
                verdict = by["typed"]
                word = {True: "right", False: "wrong", None: verdict.reason}[verdict.correct]
                outcomes[word[:60]] += 1
            slowest = max(slowest, time.perf_counter() - began)
        replaced = graders.num_replaced
    for word, count in outcomes.most_common():
        print(f"{count:6d}  {word}")
    print(f"{sum(outcomes.values())} of {len(rows)} graded in {time.perf_counter() - start:.0f} s")
    print(f"slowest 100 rows {slowest:.1f} s; workers replaced: {replaced} (limits: {options.seconds:g} s an answer)")
    here, workers = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"peak memory: {here:.0f} MB here, {workers:.0f} MB in a worker (limit {options.memory_mb} MB of address space)"
    )


if __name__ == "__main__":
    main()
