"""How often 95 % intervals hold the truth, on simulated benchmarks: micota's beside common alternatives, as a table.

    python benchmarks/interval_coverage.py [--trials 4000] [--problems 30] [--seed 0] [--to coverage.md]

The chance of a right answer differs between problems by a beta distribution, or is one of a few values (a share of
problems that the model never solves, a share that it always solves). Paired differences are of two models that differ
on a share of the problems.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micota.analysis.intervals import Estimate, bounded_mean, combined, paired_mean

Array = NDArray[np.float64]
Interval = Callable[[Array], tuple[float, float]]
TINY = 1e-9  # a truth at an end counts as held, whatever rounding does to the end
RESAMPLES = 400
BETAS = ((0.4, 0.9), (0.1, 0.9), (0.3, 0.3), (1, 1), (2, 2), (3, 1), (1, 3), (0.5, 9), (9, 0.5))
MIXTURES = (((0.5, 0.0), (0.5, 0.8)), ((0.8, 1.0), (0.2, 0.3)), ((0.3, 0.0), (0.4, 0.5), (0.3, 1.0)))
SAMPLING = ((1, 1), (8, 1), (64, 1), (8, 4), (16, 8), (64, 8), (64, 32))  # samples of each problem, k of pass@k
DISCORDANCE = ((0.05, 0.0), (0.05, 0.03), (0.1, 0.0), (0.2, 0.06), (0.2, 0.2), (0.4, 0.12))  # share, difference
PAPER = (30, 40, 675, 500, 1319)


@dataclass(frozen=True)
class Case:
    """One simulation: its name, its truth, and a function that samples the values of all problems."""

    name: str
    truth: float
    sample: Callable[[np.random.Generator], Array]


def chances(population: Sequence[Sequence[float]] | tuple[float, float], count: int) -> Callable[..., Array]:
    """A sampler of the problems' chances of a right answer."""
    if isinstance(population[0], tuple):
        shares, levels = zip(*population, strict=True)  # type: ignore[arg-type]
        return lambda generator: generator.choice(levels, p=shares, size=count)
    first, second = population
    return lambda generator: generator.beta(first, second, size=count)


def pass_case(population: Sequence[Sequence[float]] | tuple[float, float], samples: int, k: int, count: int) -> Case:
    """pass@k (avg@n for k = 1) of ``count`` problems."""
    table = np.array([1 - math.comb(samples - c, k) / math.comb(samples, k) for c in range(samples + 1)])
    draw = chances(population, count)
    if isinstance(population[0], tuple):
        truth = sum(share * (1 - (1 - level) ** k) for share, level in population)  # type: ignore[misc]
    else:
        first, second = population
        # E[1 - (1 - p)^k] for p ~ Beta(a, b) is 1 - B(a, b + k) / B(a, b).
        logs = math.lgamma(second + k) + math.lgamma(first + second)  # type: ignore[operator]
        logs -= math.lgamma(second) + math.lgamma(first + second + k)  # type: ignore[operator]
        truth = 1 - math.exp(logs)
    label = f"avg@{samples}" if k == 1 else f"pass@{k} of {samples}"
    name = (
        ", ".join(f"{share:.0%} at {level}" for share, level in population)
        if isinstance(population[0], tuple)
        else f"Beta{population}"
    )  # type: ignore[misc]
    return Case(f"{label}; {name}", truth, lambda generator: table[generator.binomial(samples, draw(generator))])


def paired_case(share: float, difference: float, count: int) -> Case:
    """Single answers of two models that differ on a share of the problems."""

    def sample(generator: np.random.Generator) -> Array:
        uniform = generator.random(count)
        return np.where(uniform < (share + difference) / 2, 1.0, np.where(uniform < share, -1.0, 0.0))

    return Case(f"difference {difference:.0%}, {share:.0%} discordant", difference, sample)


def ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def normal(values: Array) -> tuple[float, float]:
    """The mean ± 1.96 standard errors."""
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def bootstrap(values: Array) -> tuple[float, float]:
    """The percentile interval, problems resampled."""
    generator = np.random.default_rng(0)
    means = values[generator.integers(0, len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage(case: Case, intervals: Sequence[Interval], trials: int, seed: int) -> list[float]:
    """The share of trials in which each interval holds the truth."""
    generator = np.random.default_rng(seed)
    held = np.zeros(len(intervals))
    for _ in range(trials):
        values = case.sample(generator)
        for index, interval in enumerate(intervals):
            low, high = interval(values)
            held[index] += low - TINY <= case.truth <= high + TINY
    return [float(share) for share in held / trials]


def suite_coverage(trials: int, seed: int) -> float:
    """The paper's five benchmarks: the share of combined paired intervals that hold a difference of 3 points."""
    generator = np.random.default_rng(seed)
    cases = [paired_case(share, 0.03, n) for share, n in zip((0.15, 0.25, 0.2, 0.15, 0.08), PAPER, strict=True)]
    held = 0
    for _ in range(trials):
        estimate = combined([paired_mean(case.sample(generator)) for case in cases])
        held += estimate.low <= 0.03 <= estimate.high
    return held / trials


def table(trials: int, problems: int, seed: int) -> str:
    """All cases as Markdown, in percent."""
    means = [pass_case(p, n, k, problems) for p in (*BETAS, *MIXTURES) for n, k in SAMPLING]
    paired = [paired_case(share, difference, problems) for share, difference in DISCORDANCE]
    lines = [f"| {problems} problems | truth | micota | mean ± 1.96 s.e. | bootstrap |", "|---|--:|--:|--:|--:|"]
    for cases, ours in ((means, bounded_mean), (paired, paired_mean)):
        for case in cases:
            shares = coverage(case, [lambda v, f=ours: ends(f(v)), normal, bootstrap], trials, seed)  # type: ignore[misc]
            cells = " | ".join(f"{100 * share:.1f}" for share in shares)
            lines.append(f"| {case.name} | {100 * case.truth:.1f} | {cells} |")
    lines.append(f"| paper's five benchmarks, difference 3% | 3.0 | {100 * suite_coverage(trials, seed):.1f} | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    text = table(options.trials, options.problems, options.seed)
    print(text, end="")
    if options.to is not None:
        options.to.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
