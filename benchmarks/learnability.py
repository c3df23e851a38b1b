"""Measures of training data before training against the gain of the student, over recipes and seeds of an experiment.

    python pipeline.py experiment=tiny seed=0,1,2,3,4 -m compare.recipes=[instruct,strong,half_size,short,mix_long,mix_large,most_likely,micota]
    python benchmarks/learnability.py [--seeds 0,1,2,3,4] [--recipe most_likely] [experiment=tiny compare.recipes=...]

Reads finished artifacts alone (the folder ``artifacts``, or MICOTA_ARTIFACTS); seeds that are not finished are skipped.
``--recipe`` is compared with every other, paired by problem.
"""  # noqa: E501

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict

import hydra

from micota.analysis.gaps import BASE, gaps
from micota.analysis.learnability import METHODS, Trial, correlation
from micota.analysis.lengths import data_responses, lengths, lengths_by_outcome, responses
from micota.analysis.likelihood import bits_of
from micota.analysis.statistics import Suite, holm, macro_average, paired_difference
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.store import Store
from micota.cli.app import CONF, prepare
from micota.cli.experiments import cases
from micota.config import SCHEMAS, Call, Config
from micota.graph import Comparison, comparison
from micota.graph.node import AnyNode
from micota.records import BPC, COMPLETIONS, DATA, SCORES, Completion, Example, ExampleScore, Score
from micota.report.read import load
from micota.report.rows import mean_by_problem
from micota.runtime.plan import pending

RECIPES = "compare.recipes=[instruct,strong,half_size,short,mix_long,mix_large,most_likely,micota]"
KNOWN = ("bits_per_byte", "mean", "p10", "p50", "p90", "num_tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--recipe", default="most_likely")
    parser.add_argument("--leave-out", default="", help="recipes that the correlations go without, as strong,half_size")
    parser.add_argument("overrides", nargs="*", default=["experiment=tiny", RECIPES])
    options = parser.parse_args()
    overrides = [*options.overrides, "compare.measures=[scores,bpc]"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config: Config = prepare(hydra.compose("pipeline", overrides), SCHEMAS["pipeline"], Call(overrides=overrides))
        [case] = cases(config)
    store = Store(config.artifacts)
    every = {int(seed): comparison(case.at_seed(int(seed))) for seed in options.seeds.split(",")}
    made = {seed: planned for seed, planned in every.items() if not pending(store, planned.targets())}
    if not made:
        parser.exit(
            2, f"no seed of {options.seeds} is finished in {config.artifacts}; run the command above (--help)\n"
        )
    print(f"{config.name}, {config.student.name}, seeds {', '.join(map(str, made))}\n")
    trials = [trial for seed, planned in made.items() for trial in trials_of(store, planned, seed)]
    left = [trial for trial in trials if trial.recipe not in options.leave_out.split(",")]
    print(recipes_table(trials), correlations(left), sep="\n\n", end="\n\n")
    suites = {
        recipe.name: mean_by_problem([load(store, planned.recipes[number].scores) for planned in made.values()])
        for number, recipe in enumerate(next(iter(made.values())).recipes)
    }
    print(
        responses_table(store, made),
        differences(suites, options.recipe),
        chosen(store, made, options.recipe),
        sep="\n\n",
    )


def trials_of(store: Store, made: Comparison, seed: int) -> list[Trial]:
    """One seed: for each recipe with data, measures of its data and the gain over the student before SFT."""
    accuracy = {
        recipe.name: macro_average(mean_by_problem([load(store, recipe.scores)])).value for recipe in made.recipes
    }
    return [
        Trial(
            recipe=recipe.name,
            seed=seed,
            known=asdict(bits_of(read_jsonl(store.path(recipe.bpc) / BPC, ExampleScore))),
            gain=accuracy[recipe.name] - accuracy[BASE],
        )
        for recipe in made.recipes
        if recipe.bpc is not None
    ]


def recipes_table(trials: list[Trial]) -> str:
    lines = ["| recipe | " + " | ".join(KNOWN) + " | gain |", "|---" * (len(KNOWN) + 2) + "|"]
    for recipe in dict.fromkeys(trial.recipe for trial in trials):
        rows = [trial for trial in trials if trial.recipe == recipe]
        means = [sum(row.known[name] for row in rows) / len(rows) for name in KNOWN]
        cells = [f"{value:.3f}" if value < 10 else f"{value:.0f}" for value in means]
        gain = 100 * sum(row.gain for row in rows) / len(rows)
        lines.append(f"| {recipe} | {' | '.join(cells)} | {gain:+.1f} |")
    return "\n".join(lines)


def correlations(trials: list[Trial]) -> str:
    lines = [
        "| gain against | by | correlation | 95 % interval | p | without one recipe |",
        "|---|---|---|---|---|---|",
    ]
    for known in KNOWN:
        for method in METHODS:
            result = correlation(trials, known, method)
            low, high = min(result.without.values()), max(result.without.values())
            lines.append(
                f"| {known} | {method} | {result.value:+.2f} | {result.low:+.2f} to {result.high:+.2f} | "
                f"{result.p_value:.3f} | {low:+.2f} to {high:+.2f} |"
            )
    return "\n".join(lines)


def responses_table(store: Store, made: Mapping[int, Comparison]) -> str:
    """For each recipe over all seeds: "wait" per training completion and per answer, and lengths of answers."""
    lines = [
        "| recipe | wait, data | wait, answers | tokens, answers | of correct | of incorrect | truncated |",
        "|---" * 7 + "|",
    ]
    for number, recipe in enumerate(next(iter(made.values())).recipes):
        recipes = [planned.recipes[number] for planned in made.values()]
        data = [row for each in recipes if each.bpc for row in data_responses(examples_of(store, each.bpc))]
        answers = [
            row
            for each in recipes
            for node in each.scores.values()
            for row in responses(
                read_jsonl(store.path(node.inputs["completions"]) / COMPLETIONS, Completion),
                read_jsonl(store.path(node) / SCORES, Score),
            )
        ]
        summary = lengths_by_outcome(answers)
        by_outcome = [f"{summary[name].num_tokens:.0f}" if name in summary else "" for name in ("correct", "incorrect")]
        waits = f"{lengths(data).reflections['wait']:.2f}" if data else ""
        lines.append(
            f"| {recipe.name} | {waits} | {summary['all'].reflections['wait']:.2f} | {summary['all'].num_tokens:.0f} | "
            f"{' | '.join(by_outcome)} | {100 * summary['all'].share_truncated:.1f} % |"
        )
    return "\n".join(lines)


def examples_of(store: Store, measured: AnyNode) -> list[Example]:
    """The data whose BPC was measured."""
    return read_jsonl(store.path(measured.inputs["data"]) / DATA, Example)


def differences(suites: dict[str, Suite], recipe: str) -> str:
    """The recipe against all others, in points; p by Holm over them."""
    by_other = {other: paired_difference(suites[recipe], suites[other]) for other in suites if other != recipe}
    p_values = holm({other: difference.p_value for other, difference in by_other.items()})
    lines = [f"| {recipe} against | points | 95 % interval | p (Holm) |", "|---|---|---|---|"]
    lines += [
        f"| {other} | {100 * d.value:+.1f} | {100 * d.low:+.1f} to {100 * d.high:+.1f} | {p_values[other]:.4f} |"
        for other, d in by_other.items()
    ]
    for gap in gaps({"": suites}, ("strong", "short")):
        d = gap.difference
        lines.append(f"\nP_long - P_short: {100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]")
    return "\n".join(lines)


def chosen(store: Store, made: dict[int, Comparison], recipe: str) -> str:
    """The generators of the completions of the recipe, over all seeds, and their mean length."""
    sources: Counter[str] = Counter()
    tokens: dict[str, int] = defaultdict(int)
    for planned in made.values():
        node = next(entry.bpc for entry in planned.recipes if entry.name == recipe)
        assert node is not None
        for example in examples_of(store, node):
            sources[example.source] += 1
            tokens[example.source] += example.num_tokens
    total = sum(sources.values())
    parts = [f"{name} {100 * n / total:.1f} % ({tokens[name] / n:.0f} tokens)" for name, n in sources.most_common()]
    return f"{recipe} is made of: {', '.join(parts)}"


if __name__ == "__main__":
    main()
