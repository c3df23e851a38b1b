"""From artifacts to summaries: measured values are averaged over seeds, others are left out."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from synthetic_store import PROFILES, compare

from micota.analysis.lengths import reflections
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.store import Store
from micota.errors import ArtifactError
from micota.graph import Case, CaseConfig, Experiment, experiment
from micota.graph.node import Node
from micota.records import COMPLETIONS, POINTS, TOKEN_SHIFTS, Completion, MergePoint, TokenShift
from micota.report.collect import CaseReport, case_reports, mixes, summarise
from micota.report.table import headline, top_sentence

Finished = tuple[Store, CaseReport]


def test_a_notebook_gets_every_case(finished: Finished) -> None:
    store, made = finished
    experiments = {
        seed: Experiment(
            cases=[Case(labels={"student": "tiny"}, student="tiny_student", comparison=comparison)] * 2, configs={}
        )
        for seed, comparison in made.by_seed.items()
    }
    cases = case_reports(store, "tiny", experiments)
    assert [case.summary.case_label for case in cases] == ["tiny", "tiny"]
    assert cases[0].summary.recipes == made.summary.recipes
    assert cases[0].by_seed == made.by_seed


def test_mixtures_and_their_parts_are_a_curve() -> None:
    [comparison] = compare((0,), limit=1).values()
    assert mixes(comparison) == {"long": {"mix_long": 0.2, "strong": 1.0, "short": 0.0}}
    without = replace(comparison, recipes=[recipe for recipe in comparison.recipes if recipe.name != "short"])
    assert mixes(without) == {}


def test_trials_are_gains_on_the_student_before_sft(finished: Finished) -> None:
    summary = finished[1].summary
    assert len(summary.trials) == 2 * (len(PROFILES) - 1)
    means = [trial.gain for trial in summary.trials if trial.recipe == "micota"]
    difference = next(recipe.difference for recipe in summary.recipes if recipe.name == "micota")
    assert difference is not None and sum(means) / 2 == pytest.approx(difference.value)


def test_another_recipe_is_the_baseline(finished: Finished) -> None:
    store, case = finished
    against = summarise(store, "tiny", "tiny_student", case.by_seed, baseline="strong")
    recipes = {recipe.name: recipe for recipe in against.recipes}
    before = {recipe.name: recipe for recipe in case.summary.recipes}
    assert recipes["strong"].difference is None and recipes["instruct"].difference is not None
    found, given = recipes["instruct"].difference.value, before["strong"].difference
    assert given is not None and found == pytest.approx(-given.value)
    assert headline(against).endswith(")."), headline(against)
    assert "above strong;" in headline(against) and "before SFT" not in headline(against)
    assert top_sentence(against).startswith("The best two")


def test_reflection_is_counted_in_what_is_stored(finished: Finished) -> None:
    store, made = finished
    nodes = [node for seed in made.by_seed.values() for node in seed.recipes[1].scores.values()]
    texts = [
        row.completion
        for node in nodes
        for row in read_jsonl(store.path(node.inputs["completions"]) / COMPLETIONS, Completion)
    ]
    lengths = made.summary.recipes[1].lengths
    assert lengths is not None
    expected = sum(sum(reflections(text).values()) for text in texts) / len(texts)
    assert lengths.num_reflections == pytest.approx(expected)


def test_deleted_completions_and_scores(finished: Finished, tmp_path: object) -> None:
    store, made = finished
    elsewhere = Store(f"{tmp_path}/artifacts")
    shutil.copytree(store.root, elsewhere.root)
    recipe = made.by_seed[0].recipes[0]
    shutil.rmtree(elsewhere.path(recipe.scores["easy"].inputs["completions"]))
    summary = summarise(elsewhere, "tiny", "tiny_student", {0: made.by_seed[0]})
    assert summary.recipes[0].lengths is None and summary.recipes[1].lengths is not None
    shutil.rmtree(elsewhere.path(recipe.scores["easy"]))
    with pytest.raises(ArtifactError, match="is missing; run pipeline"):
        summarise(elsewhere, "tiny", "tiny_student", {0: made.by_seed[0]})


def test_shifts_and_merge_sweeps_are_read_where_they_were_measured(finished: Finished, tmp_path: object) -> None:
    store, made = finished
    first = made.by_seed[0]
    answered = first.recipes[1].scores["easy"].inputs["completions"]
    shifts = {
        name: Node(name=name, spec=answered.spec, inputs={"completions": node})
        for name, node in first.recipes[1].scores.items()
    }
    merge_sweep = Node(name="ta", spec=answered.spec)
    point = MergePoint(
        form="merged",
        density=0.5,
        weight=0.5,
        seed=0,
        num_problems=9,
        num_correct=8,
        num_truncated=0,
        num_tokens=5.0,
        merge_seconds=1.0,
        answer_seconds=1.0,
    )
    use = TokenShift(
        token_id=5, text="so", count=4, num_unshifted=1, num_marginal=1, num_shifted=2, mean_rank=3.0, max_rank=9
    )
    for node in shifts.values():
        with store.build(node, 0) as build:
            assert build is not None
            write_jsonl(build.path / TOKEN_SHIFTS, [use])
    with store.build(merge_sweep, 0) as build:
        assert build is not None
        write_jsonl(build.path / POINTS, [point])
    recipes = [replace(recipe, rank_shifts=shifts if recipe.name == "strong" else {}) for recipe in first.recipes]
    summary = summarise(store, "tiny", "tiny_student", {0: replace(first, recipes=recipes, merge_sweep=merge_sweep)})
    assert summary.points == [point]
    assert list(summary.token_shifts) == ["strong"]
    assert summary.token_shifts["strong"] == [
        replace(use, count=12, num_unshifted=3, num_marginal=3, num_shifted=6)  # three benchmarks
    ]


def test_the_curve_of_an_experiment_whose_recipes_are_matched(cases_of: Callable[[str], list[CaseConfig]]) -> None:
    [case] = experiment(cases_of("mix_distillation/mix_curve")).cases
    curves = mixes(case.comparison)
    assert curves["long"] == {
        "short": 0.0, "mix_long": 0.2, "long_0.4": 0.4, "long_0.6": 0.6, "long_0.8": 0.8, "strong": 1.0
    }  # fmt: skip
    assert curves["large"]["small"] == 0.0 and curves["large"]["large"] == 1.0 and len(curves["large"]) == 6
