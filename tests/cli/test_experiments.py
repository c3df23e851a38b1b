"""Experiments over several cases: what their recipes are, that cases share what they have in common, and that every
command leads to what it is printed for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import hydra
import pytest
from rich.console import Console

from micota import graph
from micota.cli import app as commands
from micota.cli.experiments import cases
from micota.cli.pipeline import pipeline
from micota.config import SCHEMAS, Call, Config, arguments_for
from micota.config.method import CompareConfig
from micota.errors import ConfigError
from micota.graph import CaseConfig
from micota.graph.node import AnyNode
from micota.graph.stage import registered
from micota.runtime.plan import tasks_of

Composed = Callable[..., Any]
TWO_BY_TWO = [
    "experiment=tiny",
    "seed=3",
    "+compare.axes.student=[tiny,tiny2]",
    "+compare.axes.teacher=[{greedy: ['teacher.sampling.temperature=0', 'student.sft.epochs=2']}, {drawn: []}]",
    "compare.recipes=[instruct, strong, mix_long, {other_long: ['data=mix_long', 'teacher.sampling.top_p=0.9']},"
    " {fifths: ['data=mix_long', 'data.name=fifths', 'data.weights={long: 0.4, short: 0.6}']}, micota]",
    "compare.measures=[teacher, merges, merge_sweep, scores, bpc, rank_shift]",
]


def made_by(composed: Composed, node: AnyNode, overrides: list[str]) -> list[str]:
    """The folders of all that the command of a node makes or needs."""
    config = composed(node.command, *arguments_for(overrides, node.choose))
    match node.command:
        case "generate":
            targets = [graph.data(config, config.data)]
        case "train":
            targets = [graph.trained(config, config.role)]
        case "merge":
            targets = [graph.merge_sweep(config) if config.sweep else graph.merged(config)]
        case _:
            targets = graph.evaluation(config)
    return [made.folder for made in graph.unique(targets)]


@pytest.fixture(scope="module")
def two_by_two() -> list[CaseConfig]:
    """The cases of ``TWO_BY_TWO``, which are many to compose."""
    with hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
        call = Call(overrides=TWO_BY_TWO)
        composed = hydra.compose("pipeline", overrides=TWO_BY_TWO)
        return cases(commands.prepare(composed, SCHEMAS["pipeline"], call))


@pytest.mark.thorough  # of one experiment: test_commands_make_what_they_name in tests/graph
def test_every_kind_of_command_makes_what_it_is_printed_for(composed: Composed, two_by_two: list[CaseConfig]) -> None:
    made = graph.experiment(two_by_two)
    tried = set()
    for node in graph.unique(made.targets()):
        assert not any("compare" in argument for argument in arguments_for(TWO_BY_TWO, node.choose))
        kind = (node.command, *node.choose, node.choose.get("role"))
        if kind not in tried:
            tried.add(kind)
            assert node.folder in made_by(composed, node, TWO_BY_TWO), (node.name, node.choose)


def test_cases_and_recipes_are_what_composing_them_alone_gives(
    composed: Composed, two_by_two: list[CaseConfig]
) -> None:
    # Each recipe in one of the cases, in turn, and one case without a recipe.
    tried = [case.recipes[index] for index, case in zip(range(6), two_by_two * 2, strict=False)]
    for subject in [*tried, two_by_two[-1]]:
        alone = composed("generate", *(f"{key}={value}" for key, value in subject.chosen.items()), *TWO_BY_TWO)
        for item in fields(Config):
            if item.name != "call":
                assert getattr(subject.config, item.name) == getattr(alone, item.name), (subject, item.name)
        assert subject.config.overrides[: len(subject.chosen)] == alone.overrides[: len(subject.chosen)]


def test_the_configs_of_a_large_experiment_are_composed_once_for_each_point(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    students = [f"s{index}" for index in range(10)]
    recipes = ["instruct", "strong", "short", "long", "large", "small", "micota", "mix_long"]
    axes = f"{{student: [{','.join(students)}], teacher: [t0,t1,t2,t3,t4]}}"
    config = composed("pipeline", "experiment=tiny", f"+compare.axes={axes}", f"compare.recipes=[{','.join(recipes)}]")
    made: list[str] = []

    def compose(command: str, overrides: list[str], merged: dict[Any, Any]) -> Config:
        made.append(overrides[0])
        key, _, value = overrides[0].partition("=")
        changed = {
            "teacher": lambda: replace(config.teacher, name=value),
            "student": lambda: replace(config.student, name=value),
            "data": lambda: replace(config.data, name=value),
        }[key]()
        return replace(config, **{key: changed})

    monkeypatch.setattr("micota.cli.quick_hydra.compose", compose)
    monkeypatch.setattr("micota.cli.experiments.prepare", lambda config, schema, call: replace(config, call=call))
    every = cases(config)
    assert len(every) == 50 and len(made) == len(set(made)) == 10 + 5 + len(recipes)
    labels = {
        (c.student.name, c.teacher.name, c.data.name)
        for case in every
        for c in (recipe.config for recipe in case.recipes)
    }
    assert len(labels) == 10 * 5 * 8


def test_cases_are_the_product_of_the_axes_and_share_what_they_can(two_by_two: list[CaseConfig]) -> None:
    made = graph.experiment(two_by_two)
    assert [case.labels for case in made.cases] == [
        {"student": student, "teacher": teacher} for student in ("tiny", "tiny2") for teacher in ("greedy", "drawn")
    ]
    assert [recipe.name for recipe in made.cases[0].comparison.recipes][-2:] == ["fifths", "micota"]
    nodes = graph.unique(made.targets())
    # Of two teachers: the one that samples has two top_p, which change nothing for the greedy one.
    assert len([node for node in nodes if node.name == "tiny_teacher@tiny"]) == 3
    [short] = [node for node in nodes if node.name == "tiny_ta@tiny"]
    assert short.choose == {"data": "short"}, "a command names what the node does not depend on"
    assert len([node for node in nodes if node.stage == "train" and node.name.endswith("+fifths")]) == 4


def test_the_command_line_wins_and_chooses_among_points(composed: Composed) -> None:
    [one, other] = cases(composed("pipeline", *TWO_BY_TWO, "student=tiny2", "student.sft.epochs=5"))
    assert {case.labels["student"] for case in (one, other)} == {"tiny2"}
    assert {recipe.config.student.sft.epochs for recipe in (*one.recipes, *other.recipes)} == {5}
    elsewhere = cases(composed("pipeline", *TWO_BY_TWO, "student=qwen7b"))
    assert {case.config.student.name for case in elsewhere} == {"qwen7b"}
    with pytest.raises(ConfigError, match="teacher=qwq32b: the experiment has no such point"):
        cases(composed("pipeline", *TWO_BY_TWO, "teacher=qwq32b"))


@pytest.mark.parametrize(("axes", "recipes", "named"), [
    ({"seed": [0, 1]}, ["strong"], "axes.seed sets seed=0"),
    ({"student": [{"a": ["student=tiny", "seed=3"]}]}, ["strong"], "axes.student sets seed=3"),
    ({}, ["strong", {"again": ["data=strong", "++seed=1"]}], "recipes sets ++seed=1"),
    ({"artifacts": ["here", "there"]}, ["strong"], "axes.artifacts sets artifacts=here"),
])  # fmt: skip
def test_what_holds_for_a_whole_run_is_no_axis(axes: dict[str, Any], recipes: list[Any], named: str) -> None:
    first, *_ = CompareConfig(axes=axes, recipes=recipes, measures=["scores"], merge_weights=[]).conflicts()
    assert first.startswith(named + ", but ") and " is one for all cases; accepted: " in first


def test_what_is_not_measured_is_not_made(composed: Composed) -> None:
    made = graph.experiment(cases(composed("pipeline", "experiment=tiny", "compare.measures=[bpc]")))
    stages = {node.stage for node in graph.unique(made.targets())}
    assert "grade" not in stages and "likelihood" in stages
    assert [node.name for node in graph.unique(made.targets()) if node.stage == "train"] == ["tiny_ta+strong"]


EXPERIMENTS = [
    str(path.relative_to(commands.CONF / "experiment").with_suffix(""))
    for path in sorted((commands.CONF / "experiment").rglob("*.yaml"))
    if not path.name.startswith("_")
]
TWINS = [name for name in EXPERIMENTS if name.startswith("tiny/")]
COUNTS = {  # of an experiment: cases, models trained, models merged, sets of answers to training problems
    "micota": (3, 10, 1, 4),
    "ablation": (3, 10, 1, 3),
    "pivotal": (6, 12, 0, 4),
    "bpc": (5, 1, 1, 5),
    "lengths": (3, 7, 1, 2),
    "merge_sweep": (1, 1, 0, 1),
    "merge_methods": (1, 16, 13, 16),
    "corrections": (7, 16, 4, 6),
    "tiny": (1, 7, 5, 5),
    "student_sizes": (6, 37, 1, 5),
    "ways": (3, 34, 4, 7),
    "mix_distillation/long_vs_short": (10, 20, 0, 2),
    "mix_distillation/large_vs_small": (10, 20, 0, 2),
    "mix_distillation/teacher_families": (6, 12, 0, 6),
    "mix_distillation/mix": (2, 14, 0, 5),
    "mix_distillation/mix_curve": (1, 12, 0, 4),
    "mix_distillation/base_vs_instruct": (8, 32, 0, 4),
    "mix_distillation/expert_vs_general": (4, 16, 0, 4),
    "mix_distillation/rank_shift": (1, 2, 0, 2),
    "mix_distillation/unmatched": (1, 6, 0, 2),
    "replication": (5, 0, 0, 0),
}


def test_every_experiment_is_counted_and_has_a_toy_version() -> None:
    assert {name for name in EXPERIMENTS if name not in TWINS} == COUNTS.keys()
    of_papers = {name for name in EXPERIMENTS if name not in ("tiny", "student_sizes", *TWINS)}
    assert {f"tiny/{name}" for name in of_papers} == set(TWINS)


FAST = ("tiny", "replication")
# Of experiments that differ in their models alone one is thorough; of those with most cases none is.
SLOW = ["corrections", *(f"mix_distillation/{name}" for name in (
    "mix_curve", "large_vs_small", "base_vs_instruct", "expert_vs_general", "teacher_families",
))]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else [] if name in FAST else pytest.mark.thorough)
        for name in COUNTS
    ],
)
def test_the_whole_graph_of_an_experiment(
    composed: Composed, cases_of: Callable[[str], list[CaseConfig]], name: str
) -> None:
    """Without a model: names, stages, inputs, commands, and how much there is to do."""
    every = cases_of(name)
    config = every[0].config
    assert config.name == name.rpartition("/")[2]
    made = graph.experiment(every)
    nodes = graph.unique(made.targets())
    assert {node.stage for node in nodes} <= registered() and {f"{node.command}" for node in nodes} <= SCHEMAS.keys()
    folders = [node.folder for node in nodes]
    for index, node in enumerate(nodes):  # inputs first: so there is no cycle, and nothing is missing
        assert {child.folder for child in node.inputs.values() if not child.is_source} <= set(folders[:index])
    tasks = tasks_of(nodes)
    assert sum(len(task.nodes) for task in tasks) == len(nodes)
    labels = [tuple(case.labels.values()) for case in made.cases]
    assert len(set(labels)) == len(labels)
    for case in made.cases:
        recipes = [recipe.name for recipe in case.comparison.recipes]
        points = [point.label for point in config.compare.points("data")]
        assert recipes == points or (name == "replication" and set(recipes) < set(points))  # what was released
        keys = [tuple(node.key for node in recipe.targets()) for recipe in case.comparison.recipes if recipe.targets()]
        assert len(set(keys)) == len(keys), "two recipes are the same"
    stages = Counter(node.stage if node.kind != "completions" else node.command for node in nodes)
    assert (len(made.cases), stages["train"], stages["merge"], stages["generate"]) == COUNTS[name]
    for node in [node for node in nodes if node.command == "evaluate"][-1:]:  # to which most overrides lead
        assert node.folder in made_by(composed, node, [f"experiment={name}"]), (node.name, node.choose)


SMALLEST = [  # a part of the toy version: whether it runs does not depend on how much there is to do
    "problems.limit=32", "select.num_examples=6", "bench.easy.limit=6", "evaluation.sampling.max_tokens=60",
    "student.sft.epochs=1", "ta.sft.epochs=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What toy versions share, as the answers of the teacher, is made once."""
    return tmp_path_factory.mktemp("artifacts")


# One of several cases that trains, and one that compares what others released; test_pipeline.py runs experiment=tiny.
QUICK = ("tiny/bpc", "tiny/replication")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name in QUICK else pytest.mark.slow) for name in TWINS]
)
def test_every_toy_version_runs(composed: Composed, artifacts: Path, name: str) -> None:
    overrides = [f"experiment={name}", *SMALLEST, "tracker=none", "runner=inprocess", f"artifacts={artifacts}"]
    config = composed("pipeline", *overrides)
    assert config.name == f"tiny_{name.rpartition('/')[2]}"
    pipeline(config, cases(config), Console(file=StringIO(), width=160))
    reported = {folder.name.split("-")[0].split(".")[0] for folder in (artifacts / "reports").iterdir()}
    assert f"tiny_{name.rpartition('/')[2]}" in reported
    assert not list(artifacts.rglob("*.partial"))
