r"""False alarms, recall and cost of the decontamination filter.

    python benchmarks/decontamination.py --data FOLDER [--alarms FILE]

FOLDER holds ``bench/{aime24,amc23,olympiadbench,math500,gsm8k}.jsonl`` and ``train/{math_train,gsm8k_train}.jsonl``
with the columns id, problem and answer. Three measurements:

- alarms: every training pair that would be dropped, in full, to be judged by reading; all pairs go to ``--alarms``;
- recall on quoted restatements: eight MATH problems that restate problems of OlympiadBench, quoted from memory;
- recall on perturbed benchmark problems: each benchmark problem changed in one way (seeded) and taken for a training
  problem with the same answer. A problem that the change does not alter is not counted.

Beside the filter, the usual one: dropped where a run of 13 words is shared (Brown et al. 2020, appendix C), or 8.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from micota.artifacts.jsonl import write_jsonl
from micota.config import SourceConfig
from micota.data.decontamination import EXACT, SIMILAR, Match, find_matches, reasons
from micota.data.sources import load_problems
from micota.records import Problem

BENCHMARKS = ("aime24", "amc23", "olympiadbench", "math500", "gsm8k")
POOLS = ("math_train", "gsm8k_train")
PEER_WORDS = (13, 8)
Benchmarks = dict[str, list[Problem]]

# Problems of MATH (Hendrycks et al. 2021, MIT licence), quoted from memory, by the OlympiadBench id that they restate.
QUOTED = {
    "olympiadbench/2607": (
        r"An integer-valued function $f$ is called tenuous if $f(x) + f(y) > x^2$ for all positive integers $x$ and "
        r"$y.$  Let $g$ be a tenuous function such that $g(1) + g(2) + \dots + g(20)$ is as small as possible.  "
        r"Compute the minimum possible value for $g(14).$",
        "136",
    ),
    "olympiadbench/2644": (
        r"Compute $\sin^2 4^\circ + \sin^2 8^\circ + \sin^2 12^\circ + \dots + \sin^2 176^\circ.$",
        r"\frac{45}{2}",
    ),
    "olympiadbench/2713": (
        "Compute\n" r"\[\cos^3 \frac{2 \pi}{7} + \cos^3 \frac{4 \pi}{7} + \cos^3 \frac{8 \pi}{7}.\]",
        r"-\frac{1}{2}",
    ),
    "olympiadbench/2791": (
        r"The four zeros of the polynomial $x^4 + jx^2 + kx + 225$ are distinct real numbers in arithmetic "
        r"progression.  Compute the value of $j.$",
        "-50",
    ),
    "olympiadbench/2794": (
        r"On the complex plane, the parallelogram formed by the points 0, $z,$ $\frac{1}{z},$ and $z + \frac{1}{z}$ "
        r"has area $\frac{35}{37},$ and the real part of $z$ is positive.  If $d$ is the smallest possible value of "
        r"$\left| z + \frac{1}{z} \right|,$ compute $d^2.$",
        r"\frac{50}{37}",
    ),
    "olympiadbench/2890": (
        r"An ellipse in the first quadrant is tangent to both the $x$-axis and $y$-axis.  One focus is at $(3,7),$ and "
        r"the other focus is at $(d,7).$  Compute $d.$",
        r"\frac{49}{3}",
    ),
    "olympiadbench/2895": (
        "Let $a$ and $b$ be real numbers such that\n"
        r"\[a^3 - 15a^2 + 20a - 50 = 0 \quad \text{and} \quad 8b^3 - 60b^2 - 290b + 2575 = 0.\]Compute $a + b.$",
        r"\frac{15}{2}",
    ),
    "olympiadbench/2918": (
        r"Let $a_1,$ $a_2,$ $a_3,$ $\dots$ be an arithmetic sequence, and let $b_1,$ $b_2,$ $b_3,$ $\dots$ be a "
        r"geometric sequence.  The sequence $c_1,$ $c_2,$ $c_3,$ $\dots$ has $c_n = a_n + b_n$ for each positive "
        r"integer $n.$  If $c_1 = 1,$ $c_2 = 4,$ $c_3 = 15,$ and $c_4 = 2,$ compute $c_5.$",
        "61",
    ),
}

SPELLINGS = [
    (r"\\frac", r"\\dfrac"), (r"\\[cl]?dots", r"\\ldots"), (r"\\leq?(?![a-z])", r"\\leqslant "),
    (r"\\geq?(?![a-z])", "≥"), (r"\^\{(\w)\}", r"^\1"), (r"_\{(\w)\}", r"_\1"), (r"\\circ", r"{\\circ}"),
    (r"\((?=\\?\w)", r"\\left("), (r"(?<=\w)\)", r"\\right)"), (r"\s?=\s?", r" \\,=\\, "), (r"\\cdot", r"\\times"),
]  # fmt: skip
OPENINGS = [
    (r"^(Find|Compute|Calculate|Evaluate|Determine) ", ("What is ", "Work out ", "Give ")),
    (r"^What is ", ("Find ", "Determine ", "Compute ")),
    (r"^How many ", ("Find the number of ", "What is the number of ")),
    (r"(?<=[.?$] )(Find|Compute|Determine) ", ("What is ", "Then what is ")),
    (r"\bLet ", ("Suppose that ", "We let ")),
    (r"\bIf ", ("Given that ", "Suppose ")),
]
WORDS = {
    "positive integers": "natural numbers", "number": "quantity", "value": "magnitude", "such that": "so that",
    "total": "overall", "each": "every", "buys": "purchases", "sells": "is selling", "gets": "receives",
    "across": "over", "perpendicular": "orthogonal", "distinct": "different", "largest": "greatest",
    "smallest": "least", "equal to": "the same as", "many": "numerous", "there are": "we have", "has": "owns",
    "also": "as well", "people": "persons", "divided": "split", "altogether": "in total", "per": "for each",
    "left": "remaining", "before": "prior to", "begin": "start", "area": "surface", "shown": "drawn",
}  # fmt: skip
NUMBERS = dict(
    enumerate(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2)
)
NAMES = ("Ada", "Boris", "Chloe", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jakob")
COMMON = {"The", "How", "What", "When", "Each", "Find", "Let", "She", "They", "There", "After", "Then", "For", "And"}
HINT = "Express your answer as a common fraction, in simplest form."


def printed(text: str, rng: random.Random) -> str:
    r"""White space, case, ``$`` and closing punctuation, as another print of the same text."""
    text = re.sub(r"\$([^$]+?)([.,])\$", r"$\1$\2", text) if "$$" not in text else text
    text = re.sub(r" +", lambda match: rng.choice([" ", "  ", "\n"]), text).replace("$", " $ ")
    return text[0].swapcase() + text[1:].rstrip(" .?")


def spelt(text: str, rng: random.Random) -> str:
    """Synonyms of LaTeX and spacing commands."""
    for pattern, replacement in SPELLINGS:
        text = re.sub(pattern, replacement, text)
    return text


def reopened(text: str, rng: random.Random) -> str:
    """Other words at the opening and before the question."""
    for pattern, options in OPENINGS:
        text = re.sub(pattern, lambda match, options=options: rng.choice(options), text)
    return text


def hinted(text: str, rng: random.Random) -> str:
    """A hint on the form of the answer taken away, or added where there was none."""
    without = re.sub(r"(?<=[.?$])\s*(?:Express|Write|Give|Enter|Round) (?:your|the) (?:answer|letter).*$", "", text)
    return without if without != text else f"{text} {HINT}"


def reordered(text: str, rng: random.Random) -> str:
    """Its sentences in another order."""
    sentences = re.split(r"(?<=[.?])\s+", text)
    return " ".join([sentences[-1], *sentences[:-1]])


def reworded(text: str, rng: random.Random) -> str:
    """Synonyms for 28 common words, outside formulas."""
    for word, other in WORDS.items():
        text = re.sub(rf"\b{word}\b(?![^$]*\$(?:[^$]*\$[^$]*\$)*[^$]*$)", other, text)
    return text


def renamed(text: str, rng: random.Random) -> str:
    """Other people."""
    people = sorted(set(re.findall(r"(?<![\\$.?] )(?<!^)\b[A-Z][a-z]{2,}\b", text)) - COMMON)
    for name, other in zip(people, rng.sample(NAMES, min(len(people), len(NAMES))), strict=False):
        text = re.sub(rf"\b{name}\b", other, text)
    return text


def relettered(text: str, rng: random.Random) -> str:
    """Other letters for the variables x, y, z, n, m and k in formulas."""
    letters = str.maketrans("xyznmk", "uvwpqj")
    pattern = r"(?<![\\a-zA-Z])([xyznmk])(?![a-zA-Z])"
    return re.sub(r"\$[^$]+\$", lambda part: re.sub(pattern, lambda m: m[1].translate(letters), part[0]), text)


def worded(text: str, rng: random.Random) -> str:
    """Numbers from 2 to 12 in prose as words."""
    return re.sub(r"(?<![\w$.,\\{^-])(\d+)(?= [a-z])", lambda m: NUMBERS.get(int(m[1]), m[1]), text)


def everything(text: str, rng: random.Random) -> str:
    """Spelling, opening, hint, order and words at once."""
    for change in (hinted, reopened, reworded, reordered, spelt):
        text = change(text, rng)
    return text


CHANGES: tuple[Callable[[str, random.Random], str], ...] = (
    printed, spelt, reopened, hinted, reordered, reworded, renamed, relettered, worded, everything,
)  # fmt: skip


def perturbed(benchmarks: Benchmarks, change: Callable[[str, random.Random], str], seed: int) -> list[Problem]:
    """The benchmark problems that ``change`` changes, changed."""
    rng = random.Random(f"{change.__name__}-{seed}")
    rows = [row for problems in benchmarks.values() for row in problems]
    changed = [replace(row, problem=change(row.problem, rng)) for row in rows]
    return [new for old, new in zip(rows, changed, strict=True) if new.problem != old.problem]


def runs_of_words(text: str, size: int) -> set[tuple[str, ...]]:
    """All runs of ``size`` words; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}


def share_a_run(problems: list[Problem], benchmarks: Benchmarks, size: int) -> set[str]:
    """The peer: ids of problems that share a run of ``size`` words with any benchmark problem."""
    known = {run for rows in benchmarks.values() for row in rows for run in runs_of_words(row.problem, size)}
    return {row.id for row in problems if not known.isdisjoint(runs_of_words(row.problem, size))}


def load(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[str, list[Problem]]]:
    for name in names:
        yield name, load_problems(SourceConfig(path=str(folder / f"{name}.jsonl"), id_column="id"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with bench/ and train/; without it nothing is measured")
    parser.add_argument("--alarms", type=Path, help="where to write all pairs, similar ones too, as JSONL")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.data is None:
        print("skipped: give the folder of problems with --data (see --help)")
        return
    benchmarks = dict(load(options.data / "bench", BENCHMARKS))
    pairs = [match for pool in load(options.data / "train", POOLS) for match in alarms(*pool, benchmarks)]
    if options.alarms:
        write_jsonl(options.alarms, pairs)
    recall(
        "quoted", [Problem(id=key, problem=text, answer=answer) for key, (text, answer) in QUOTED.items()], benchmarks
    )
    for change in CHANGES:
        recall(change.__name__, perturbed(benchmarks, change, options.seed), benchmarks)


def alarms(pool: str, problems: list[Problem], benchmarks: Benchmarks) -> list[Match]:
    """All pairs of a pool; prints how many problems micota and the peer drop, and the pairs of micota in full."""
    start = time.process_time()
    matches = find_matches(problems, benchmarks)
    seconds = [time.process_time() - start]
    peers = []
    for size in PEER_WORDS:
        start = time.process_time()
        peers.append(len(share_a_run(problems, benchmarks, size)))
        seconds.append(time.process_time() - start)
    dropped = reasons(matches)
    num_similar = sum(match.rule == SIMILAR for match in matches)
    print(f"{pool}: {len(problems)} problems against {sum(map(len, benchmarks.values()))}")
    print(f"  micota: {len(dropped)} dropped, {num_similar} similar listed, {seconds[0]:.1f} s of CPU time")
    for size, count, taken in zip(PEER_WORDS, peers, seconds[1:], strict=True):
        print(f"  {size} words in common: {count} dropped, {taken:.1f} s of CPU time")
    for match in matches:
        if match.problem_id in dropped and match.rule != SIMILAR:
            print(f"  {match.rule}: {match.problem_id} ~ {match.benchmark_id} [{match.answer}]")
            print(f"    {match.problem}\n    {match.benchmark_problem}")
    return matches


def recall(name: str, problems: list[Problem], benchmarks: Benchmarks) -> None:
    """Print the number of problems that are matched to the benchmark problem of their id, and that the peer drops."""
    rules = {
        match.problem_id: match.rule
        for match in find_matches(problems, benchmarks)
        if match.rule != SIMILAR and match.problem_id == match.benchmark_id
    }
    exact = sum(rule == EXACT for rule in rules.values())
    peers = [f"{size} words {share(len(share_a_run(problems, benchmarks, size)), problems)}" for size in PEER_WORDS]
    print(f"{name}: {len(problems)} problems; micota {share(len(rules), problems)} ({exact} exact); {'; '.join(peers)}")


def share(count: int, problems: list[Problem]) -> str:
    return f"{100 * count / len(problems):.1f} %"


if __name__ == "__main__":
    main()
