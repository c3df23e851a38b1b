"""What a merge sweep is made from, and what a config shows to be wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from micota import graph
from micota.artifacts.inventory import points_of
from micota.artifacts.store import Store
from micota.errors import ConfigError
from micota.graph.merge_points import merge_point, point_data, point_likelihood, point_scores
from micota.graph.trainings import generators_of
from micota.runtime.plan import show_plan

Composed = Callable[..., Any]


@pytest.mark.parametrize(("overrides", "named"), [
    (["merge.target=accuracy", "merge.search=cma_es", "merge_sweep.densities=[0.3,0.5]"],
     r"merge_sweep\.densities=\[0\.3, 0\.5\] with merge\.search=cma_es, which has one; accepted: a list of one"),
    (["merge.target=student_gain", "student=untrained"],
     "student=untrained has no training settings, and merge.target=student_gain tunes it; add student.sft"),
])  # fmt: skip
def test_settings_that_no_sweep_has_are_refused(composed: Composed, overrides: list[str], named: str) -> None:
    config = composed("merge", *(item for item in overrides if item != "student=untrained"))
    if "student=untrained" in overrides:
        config = replace(config, student=replace(config.student, name="untrained", sft=None))
    with pytest.raises(ConfigError, match=named):
        graph.merged(config)


def test_a_plan_refuses_an_engine_that_cannot_take_weights(composed: Composed, tmp_path: Path) -> None:
    for overrides in (["engine=ray", "sweep=true"], ["engine=server", "merge.target=accuracy"]):
        config = composed("merge", "experiment=tiny", f"artifacts={tmp_path}", *overrides)
        node = graph.merge_sweep(config) if config.sweep else graph.merged(config)
        with pytest.raises(ConfigError, match="cannot take the weights of one merge after another; accepted for a mer"):
            show_plan(config, Store(tmp_path), [node], Console(quiet=True))


def test_the_student_measures_points_that_all_sweeps_share(composed: Composed) -> None:
    plain = graph.merge_sweep(composed("merge"))
    bpc, gain = (graph.merge_sweep(composed("merge", f"merge.target=student_{name}")) for name in ("bpc", "gain"))
    points = [merge_point(sweep, "merged", 0.5, 0.3, 0) for sweep in (plain, bpc, gain)]
    assert len({point.folder for point in points}) == 1, "the student is none of the models that are merged"
    assert len({points_of({label: child.key for label, child in s.inputs.items()}) for s in (plain, bpc, gain)}) == 1
    runs = composed("merge").student
    student = bpc.spec.student
    data = point_data(bpc, student, points[0])
    assert data.spec.select.filters == ["finished", "correct"] and data.inputs == {"completions": points[0]}
    assert point_likelihood(bpc, student, data, runs).inputs["model"].name == runs.name
    tuned, answers, scores = point_scores(gain, gain.spec.student, data, runs)
    assert tuned.spec.sft.max_steps == 20 and tuned.spec.sft.validation_fraction == 0
    assert scores.inputs["completions"] is answers and scores.spec.problems.skip == 100, "other problems"
    assert answers.spec.questions.skip == 100 and answers.spec.questions.limit == 100


def test_the_student_runs_on_the_engine_of_the_sweep(composed: Composed) -> None:
    def engine(*overrides: str) -> str:
        return str(
            graph.merge_sweep(composed("merge", "merge.target=student_gain", *overrides)).spec.student.answers.engine
        )

    assert engine("engine=hf", "engine@ta.engine=vllm") == "vllm", "the stage has placed the config for the TA"
    assert engine("engine=vllm", "engine@student.engine=hf") == "hf"


def test_another_student_chooses_another_merge_and_is_no_generator_of_its_data(composed: Composed) -> None:
    one, other = (composed("merge", "merge.target=student_bpc", f"student={name}") for name in ("qwen3b", "llama3b"))
    assert graph.merged(one).key != graph.merged(other).key
    assert (
        graph.merged(composed("merge", "student=llama3b")).key == graph.merged(composed("merge", "student=qwen3b")).key
    )
    config = composed("train", "merge.target=student_bpc", "data=micota", "student=qwen3b")
    data = graph.data(config, config.data)
    assert config.student.path not in generators_of(data) and config.ta.path in generators_of(data)
    assert config.student.path in {node.spec.path for node in data.walk() if node.is_source}


def test_a_curve_over_weights_has_no_target(composed: Composed) -> None:
    config = composed("pipeline", "experiment=tiny", "merge.target=accuracy", "compare.merge_weights=[0.3]")
    fixed = config.merge.fixed_at(0.3)
    assert (fixed.target, fixed.search, fixed.weight) == (None, "grid", 0.3) and not fixed.is_calibrated
    assert config.merge.is_calibrated
