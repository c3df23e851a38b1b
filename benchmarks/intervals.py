"""Coverage of confidence intervals on simulated suites, beside that of a common alternative.

    python benchmarks/intervals.py [--trials 3000] [--seed 0]

The suite is the paper's five benchmarks; two models differ on 8 to 25 % of the problems and by 3 points on average.
"""

from __future__ import annotations

import argparse

import numpy as np

from micota.analysis.statistics import average_at_k, paired_difference

COUNTS = (30, 40, 675, 500, 1319)
DISCORDANCE = (0.15, 0.25, 0.2, 0.15, 0.08)
GAIN = 0.03
RESAMPLES = 1000


def bootstrap(deltas: list[np.ndarray], generator: np.random.Generator) -> tuple[float, float]:
    """The 95 % percentile interval of the macro average, problems resampled within each benchmark."""
    total = np.zeros(RESAMPLES)
    for delta in deltas:
        shares = [np.mean(delta == value) for value in (-1, 0, 1)]
        counts = generator.multinomial(len(delta), shares, size=RESAMPLES)
        total += (counts[:, 2] - counts[:, 0]) / len(delta)
    low, high = np.quantile(total / len(deltas), [0.025, 0.975])
    return float(low), float(high)


def paired(trials: int, generator: np.random.Generator) -> tuple[float, float]:
    """Shares of intervals that hold the true difference: by micota, and by the bootstrap."""
    held = np.zeros(2)
    for _ in range(trials):
        deltas = []
        for count, share in zip(COUNTS, DISCORDANCE, strict=True):
            uniform = generator.random(count)
            better, either = uniform < (share + GAIN) / 2, uniform < share
            deltas.append(np.where(better, 1.0, np.where(either, -1.0, 0.0)))
        sides = [
            {
                str(bench): dict(zip(map(str, range(len(delta))), (delta == sign).astype(float), strict=True))
                for bench, delta in enumerate(deltas)
            }
            for sign in (1, -1)
        ]
        micota = paired_difference(sides[0], sides[1], num_resamples=1)
        low, high = bootstrap(deltas, generator)
        held += [micota.low <= GAIN <= micota.high, low <= GAIN <= high]
    return float(held[0] / trials), float(held[1] / trials)


def average(problems: int, samples: int, trials: int, generator: np.random.Generator) -> tuple[float, float]:
    """Shares of intervals of avg@k that hold the truth: by micota, and mean ± 1.96 standard errors."""
    held = np.zeros(2)
    truth = 0.4 / 1.3
    for _ in range(trials):
        chance = generator.beta(0.4, 0.9, size=problems)
        rights = generator.random((problems, samples)) < chance[:, None]
        micota = average_at_k({str(number): row.astype(float).tolist() for number, row in enumerate(rights)})
        held += [micota.low <= truth <= micota.high, abs(micota.value - truth) <= 1.96 * micota.standard_error]
    return float(held[0] / trials), float(held[1] / trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    micota, peer = paired(options.trials, generator)
    print(f"paired difference: {100 * micota:.1f} % hold the truth; stratified paired bootstrap {100 * peer:.1f} %")
    for problems, samples in ((30, 1), (30, 8), (30, 64), (500, 4)):
        micota, peer = average(problems, samples, options.trials, generator)
        print(
            f"avg@{samples} of {problems} problems: {100 * micota:.1f} %; "
            f"mean ± 1.96 standard errors {100 * peer:.1f} %"
        )


if __name__ == "__main__":
    main()
