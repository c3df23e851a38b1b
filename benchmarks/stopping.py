"""How often a group-sequential rule decides, by simulation: where two models are equal (type I error, nominal 5 %) and
where they differ (power), with the share of the planned seeds that it runs.

    python benchmarks/stopping.py [--repeats 20000] [--seed 0]

Each problem has a chance to be solved by either model. Each seed draws one answer of each. "fixed" is one test after
all seeds. The rule decides on :func:`micota.analysis.sequential.looks`, as the pipeline does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from micota.analysis.sequential import looks
from micota.config.stopping import SPENDING

Values = NDArray[np.float64]
FIXED = "fixed"  # one test after all seeds
# problems of each benchmark, seeds, spread: a problem's true difference is the mean plus or minus it
SETTINGS: list[tuple[list[int], int, float]] = [
    ([30], 3, 0.1),
    ([100], 3, 0.1),
    ([200], 5, 0.3),
    ([500], 10, 0.2),
    ([30, 40, 500], 3, 0.2),
    ([30, 40, 500], 5, 0.2),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    error = 100 * math.sqrt(0.05 * 0.95 / arguments.repeats)
    print(f"{arguments.repeats} repeats, seed {arguments.seed}; standard error of a share of 5 %: {error:.2f} points\n")
    print("| problems | seeds | spread | difference, points | rule | decided, % | seeds run, % |")
    print("|---|--:|--:|--:|---|--:|--:|")
    for problems, seeds, spread in SETTINGS:
        for difference in (0.0, 2.8 * _error(problems, seeds, spread)):
            for rule in (FIXED, *SPENDING):
                print(_row(problems, seeds, spread, difference, rule, arguments.repeats, arguments.seed), flush=True)


def _error(problems: Sequence[int], seeds: int, spread: float) -> float:
    """The standard error of the difference after all seeds, with answers of variance near 0.2."""
    variance = spread**2 + 2 * 0.2 / seeds
    return math.sqrt(sum(variance / count for count in problems)) / len(problems)


def _row(
    problems: Sequence[int], seeds: int, spread: float, difference: float, rule: str, repeats: int, seed: int
) -> str:
    generator = np.random.default_rng(seed)
    ends = [_end(_deltas(generator, problems, seeds, spread, difference), rule) for _ in range(repeats)]
    decided = [run for run, is_decided in ends if is_decided]
    run = sum(run for run, _ in ends) / seeds / repeats
    names = " + ".join(map(str, problems))
    share = 100 * len(decided) / repeats
    return f"| {names} | {seeds} | {spread:g} | {100 * difference:.1f} | {rule} | {share:.2f} | {100 * run:.0f} |"


def _deltas(
    generator: np.random.Generator, problems: Sequence[int], seeds: int, spread: float, difference: float
) -> list[list[Values]]:
    """Differences of single answers by seed and benchmark; the mean true difference of new problems is
    ``difference``."""
    by_bench = []
    for count in problems:
        middle = generator.beta(2, 2, count) * (1 - spread - difference) + (spread + difference) / 2
        half = (difference + spread * generator.choice([-1, 1], count)) / 2
        first, second = middle + half, middle - half
        answers = [generator.random((seeds, count)) < chance for chance in (first, second)]
        by_bench.append(answers[0].astype(float) - answers[1])
    return [[values[seed] for values in by_bench] for seed in range(seeds)]


def _end(by_seed: list[list[Values]], rule: str) -> tuple[int, bool]:
    """The number of seeds that are run, and whether they decide."""
    if rule == FIXED:
        pooled = [np.mean(values, axis=0) for values in zip(*by_seed, strict=True)]
        return len(by_seed), looks([pooled], 1)[-1].decision is not None
    last = looks(by_seed, len(by_seed), spending=rule)[-1]
    return last.seeds, last.decision is not None


if __name__ == "__main__":
    main()
