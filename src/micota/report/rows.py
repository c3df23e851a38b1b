"""The numbers of one model of a comparison, from its scores at each seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from micota.analysis.intervals import Estimate
from micota.analysis.lengths import Lengths
from micota.analysis.metrics import Cost, budget_values, by_budget, by_label, cost, majority_at, pass_at
from micota.analysis.sequential import Look
from micota.analysis.sequential import simultaneous as simultaneous_at_looks
from micota.analysis.statistics import (
    Difference,
    Discordance,
    average_at_k,
    best_of,
    macro_average,
    mcnemar,
    num_samples,
    paired_difference,
    problem_means,
    simultaneous,
)
from micota.artifacts.manifest import Manifest
from micota.config.stopping import OBRIEN_FLEMING
from micota.records import NOT_PROMPTED, Score

Graded = dict[str, list[Score]]  # by benchmark


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of a comparison, over all seeds. Accuracies are fractions; tokens are means per answer.

    ``by_benchmark`` and ``average`` have 95 % intervals over problems; ``seed_sd`` is the standard deviation of the
    average over seeds (None for one seed). ``difference`` is to the student before SFT, paired by problem; in a summary
    p-value and interval are corrected for the number of recipes. ``discordance`` is the same by benchmark, where each
    problem has one sample.
    ``tokens`` has the tokens of each answer by outcome, ``means`` each problem's share of right answers by benchmark,
    ``lengths`` the statistics of the answers' texts (None if they are no longer stored). By benchmark, ``pass_at`` and
    ``majority_at`` have pass@k and maj@k where problems have several samples, ``costs`` the cost of a right answer
    (``average``: over all benchmarks), ``by_level`` and ``by_subject`` the accuracy of parts, and
    ``by_budget`` that of answers cut at numbers of tokens (``average``: over benchmarks).
    """

    name: str
    by_benchmark: dict[str, Estimate]
    average: Estimate
    seed_sd: float | None
    num_tokens: float
    tokens: dict[str, list[int]]
    bits_per_byte: float | None
    data_tokens: float | None
    difference: Difference | None
    discordance: dict[str, Discordance]
    means: dict[str, dict[str, float]] = field(default_factory=dict)
    lengths: Lengths | None = None
    pass_at: dict[str, dict[int, Estimate]] = field(default_factory=dict)
    majority_at: dict[str, dict[int, Estimate]] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    by_level: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    by_subject: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    by_budget: dict[str, dict[int, Estimate]] = field(default_factory=dict)
    num_seeds: int = 1

    @property
    def outcomes(self) -> dict[str, int]:
        """The number of answers with each outcome."""
        return {outcome: len(tokens) for outcome, tokens in self.tokens.items()}


MERGED_TITLE = "TA merged"  # of a merge that has no one weight


def ta_title(weight: float) -> str:
    """Return the label of the TA at a merge weight."""
    return {0.0: "TA before SFT", 1.0: "TA after SFT"}.get(weight, f"TA merged at {weight:g}")


def row(
    name: str,
    graded: Sequence[Graded],
    baselines: Sequence[Graded] | None = None,
    bpc: Sequence[Manifest] = (),
) -> Row:
    """Return the row of one model.

    ``graded`` are its scores and ``baselines`` those of the student before SFT, one entry per seed each; ``bpc`` are
    the manifests of the BPC of its data.
    """
    samples = samples_by_problem(graded)
    means = mean_by_problem(graded)
    baseline_means = mean_by_problem(baselines) if baselines else None
    binary = all(num_samples(rights) == 1 for rights in samples.values())
    scores = [score for seed in graded for rows in seed.values() for score in rows]
    averages = [macro_average(mean_by_problem([seed])).value for seed in graded]
    tokens: dict[str, list[int]] = defaultdict(list)
    for score in scores:
        tokens[score.outcome].append(score.num_tokens)
    return Row(
        name=name,
        by_benchmark={bench: average_at_k(rights) for bench, rights in samples.items()},
        average=macro_average(means),
        seed_sd=float(np.std(averages, ddof=1)) if len(averages) > 1 else None,
        num_tokens=float(np.mean([score.num_tokens for score in scores])),
        tokens=dict(tokens),
        bits_per_byte=mean_metric(bpc, "bits_per_byte") if bpc else None,
        data_tokens=mean_metric(bpc, "num_tokens") if bpc else None,
        difference=paired_difference(means, baseline_means) if baseline_means else None,
        discordance={name: mcnemar(means[name], baseline_means[name]) for name in means}
        if baseline_means and binary
        else {},
        means=means,
        num_seeds=len(graded),
        **_metrics(graded),
    )


def _metrics(graded: Sequence[Graded]) -> dict[str, Any]:
    """The metrics of sampled answers, costs and parts of a row; benchmarks without them are left out."""
    by_bench = {bench: [seed[bench] for seed in graded] for bench in graded[0]}
    pooled = {bench: [score for scores in seeds for score in scores] for bench, seeds in by_bench.items()}
    found: dict[str, dict[str, Any]] = {
        "pass_at": {bench: pass_at(seeds) for bench, seeds in by_bench.items()},
        "majority_at": {bench: majority_at(seeds) for bench, seeds in by_bench.items()},
        "by_level": {bench: by_label(scores, "level") for bench, scores in pooled.items()},
        "by_subject": {bench: by_label(scores, "subject") for bench, scores in pooled.items()},
    }
    curves = {bench: budget_values(scores) for bench, scores in pooled.items()}
    shared = sorted(set.intersection(*(set(curve) for curve in curves.values())))
    found["by_budget"] = {bench: by_budget(scores) for bench, scores in pooled.items()} | {
        "average": {budget: macro_average({b: curve[budget] for b, curve in curves.items()}) for budget in shared}
    }
    kept = {name: {bench: one for bench, one in values.items() if one} for name, values in found.items()}
    everything = [score for scores in pooled.values() for score in scores]
    return kept | {"costs": {bench: cost(scores) for bench, scores in (pooled | {"average": everything}).items()}}


def mean_metric(manifests: Sequence[Manifest], metric: str) -> float:
    """Return the mean of one metric over some artifacts."""
    return float(np.mean([manifest.metrics[metric] for manifest in manifests]))


def adjusted(
    recipes: Sequence[Row], looks: Mapping[str, Sequence[Look]] | None = None, spending: str = OBRIEN_FLEMING
) -> list[Row]:
    """Return the recipes with the p-values and intervals of their differences corrected for the number of recipes, and
    for the number of ``looks`` at them, if there were some before all seeds."""
    compared = {recipe.name: recipe.difference for recipe in recipes if recipe.difference is not None}
    corrected = simultaneous_at_looks(compared, looks, spending) if looks else simultaneous(compared)
    return [replace(recipe, difference=corrected.get(recipe.name)) for recipe in recipes]


def top_two(recipes: Sequence[Row]) -> tuple[str, str, Difference] | None:
    """Return the two most accurate recipes and their paired difference, corrected for all pairs that they were chosen
    from; None for fewer than two."""
    ranked = sorted((recipe for recipe in recipes if recipe.means), key=lambda recipe: -recipe.average.value)
    if len(ranked) < 2:
        return None
    first, second = ranked[:2]
    pairs = len(ranked) * (len(ranked) - 1) // 2
    return first.name, second.name, best_of(paired_difference(first.means, second.means), pairs)


def mean_by_problem(graded: Sequence[Graded]) -> dict[str, dict[str, float]]:
    """Return by benchmark and problem the share of right samples, over samples and seeds.

    Raises:
        PairingError: problems differ in their number of samples.
    """
    return {bench: problem_means(samples) for bench, samples in samples_by_problem(graded).items()}


def samples_by_problem(graded: Sequence[Graded]) -> dict[str, dict[str, list[bool]]]:
    """Return by benchmark and problem whether each sample was right, over all seeds.

    Intervals then treat problems as the sample, so more seeds do not count as more problems. A problem that does not
    fit the model's context was not prompted and counts as wrong in every sample.
    """
    rights: dict[str, dict[str, list[bool]]] = {bench: defaultdict(list) for bench in graded[0]}
    for seed in graded:
        for bench, scores in seed.items():
            by_problem: dict[str, list[Score]] = defaultdict(list)
            for score in scores:
                by_problem[score.problem_id].append(score)
            most = max(len(rows) for rows in by_problem.values())
            for identity, rows in by_problem.items():
                prompted = rows[0].finish_reason != NOT_PROMPTED
                rights[bench][identity] += [row.correct is True for row in rows] if prompted else [False] * most
    return rights
