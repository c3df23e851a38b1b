"""The useful share of packed rows over ranks: tokens of examples over tokens that ranks compute or wait for.

    python benchmarks/packing.py [--lengths long,short,mixed] [--data FOLDER/data.jsonl] [--pack-length 16384]

Ranks wait for the largest micro-batch of a round, since layers in shards need all ranks. ``in turn`` fills rows up
(best-fit decreasing) and deals them out, longest first; ``balanced`` is what training does. Lengths are sampled from a
log-normal distribution, or from the token counts of a file of training rows. No GPU is needed: tokens are counted, and
the time of a token is taken to be the same in short and long examples.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from micota.sft.balancing import balance, computed_tokens
from micota.sft.packing import pack

Sampled = Callable[[np.random.Generator, int], list[int]]


def lognormal(median: float, sigma: float, longest: int = 16384) -> Sampled:
    def sampled(generator: np.random.Generator, count: int) -> list[int]:
        lengths = np.exp(generator.normal(np.log(median), sigma, count)).clip(64, longest)
        return [int(length) for length in lengths]

    return sampled


def mixed(generator: np.random.Generator, count: int) -> list[int]:
    """One long chain of thought to four short ones, as in Mix Distillation (arXiv 2502.12143)."""
    longs = generator.random(count) < 0.2
    pairs = zip(longs, LENGTHS["long"](generator, count), lognormal(600, 0.5)(generator, count), strict=True)
    return [long if is_long else short for is_long, long, short in pairs]


LENGTHS: dict[str, Sampled] = {
    "long": lognormal(4096, 0.6),  # as in sft_gpu.py
    "short": lognormal(2500, 0.7),
    "mixed": mixed,
}
BATCHES = [(8, 2), (8, 4), (16, 4), (32, 4), (32, 8), (32, 16), (96, 8), (96, 16)]  # examples, ranks


def of_file(path: Path) -> Sampled:
    """Lengths sampled from ``num_tokens`` of training rows."""
    known = [json.loads(line)["num_tokens"] for line in path.read_text(encoding="utf-8").splitlines()]
    return lambda generator, count: [int(length) for length in generator.choice(known, count)]


def in_turn(lengths: Sequence[int], capacity: int, num_ranks: int) -> int:
    """Tokens that a rank computes or waits for when full rows are dealt out, longest first."""
    rows = sorted((sum(lengths[index] for index in row) for row in pack(lengths, capacity)), reverse=True)
    return sum(rows[::num_ranks])


def useful_shares(sampled: Sampled, batch: int, num_ranks: int, capacity: int, steps: int) -> tuple[float, float]:
    """The useful share with rows in turn and balanced, over ``steps`` optimiser steps."""
    generator = np.random.default_rng(0)
    useful = former = balanced = 0
    for _ in range(steps):
        lengths = sampled(generator, batch)
        useful += sum(lengths)
        former += num_ranks * in_turn(lengths, capacity, num_ranks)
        balanced += num_ranks * computed_tokens(balance(lengths, capacity, 1, num_ranks), lengths)
    return useful / former, useful / balanced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="long,short,mixed", help="of " + ", ".join(LENGTHS))
    parser.add_argument("--data", type=Path, help="data.jsonl of a data artifact, instead")
    parser.add_argument("--pack-length", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    kinds = {name: LENGTHS[name] for name in options.lengths.split(",")}
    if options.data:
        kinds = {options.data.parent.name: of_file(options.data)}
    print("| lengths | examples of a step | ranks | in turn | balanced | gain | ms |\n|---|---|---|---|---|---|---|")
    for name, sampled in kinds.items():
        for batch, num_ranks in BATCHES:
            start = time.perf_counter()
            former, balanced = useful_shares(sampled, batch, num_ranks, options.pack_length, options.steps)
            each = (time.perf_counter() - start) / options.steps * 1e3
            cells = [name, batch, num_ranks, f"{former:.2f}", f"{balanced:.2f}", f"{balanced / former:.2f}x"]
            print("| " + " | ".join(map(str, [*cells, f"{each:.1f}"])) + " |", flush=True)


if __name__ == "__main__":
    main()
