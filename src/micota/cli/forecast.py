"""The command forecast: what a student is expected to gain from recipes, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.text import Text

from micota import graph
from micota.analysis.forecast import FEATURES, MIN_STUDENTS, Outcome
from micota.artifacts.jsonl import read_jsonl
from micota.artifacts.store import Store
from micota.cli.experiments import cases
from micota.config import Config, ForecastConfig, override_key
from micota.console import WideTable, new_table, open_console, print_table
from micota.errors import ConfigError
from micota.graph.evaluations import data_of_forecast
from micota.graph.node import AnyNode
from micota.records import FORECAST, ForecastRow
from micota.report.collect import BASELINE
from micota.report.outcomes import all_outcomes, sum_of
from micota.runtime.execute import check_first
from micota.runtime.plan import finished, pending, show_plan, tasks_of
from micota.runtime.runners import default_jobs, open_runner, run_tasks

OWN = ("compare.recipes", "outcomes")


def forecast(config: ForecastConfig) -> None:
    """Measure the data of every recipe under the student, and print the expected gains.

    Raises:
        ConfigError: too few students have finished trainings, or there is no recipe with data.
    """
    console, store = open_console(), Store(config.artifacts)
    student = graph.source(config.student)
    outcomes = all_outcomes(store, config.outcomes, without=f"{student.name}-{student.key}")
    _check_enough(outcomes, config)
    node, configs = _node(config, sum_of(outcomes))
    if config.plan:
        show_plan(config, store, [node], console, configs=configs)
        return
    todo = pending(store, [node])
    if todo:
        check_first(configs, store, todo)
        jobs = config.jobs or default_jobs(config)
        with open_runner(config, jobs, store, console, configs) as runner:
            run_tasks(tasks_of(todo, finished(store, [node])), runner, jobs, console)
    folder = store.verified(node)
    print_table(console, forecast_table(node, read_jsonl(folder / FORECAST, ForecastRow)))
    skill = store.manifest(node)
    assert skill is not None
    if "spearman" in skill.metrics:
        console.print(Text(_skill(skill.metrics, skill.counts)))
    console.print(Text(f"forecast: {folder / FORECAST}"))


def _check_enough(outcomes: list[Outcome], config: ForecastConfig) -> None:
    students = {one.student for one in outcomes}
    if len(students) < MIN_STUDENTS:
        raise ConfigError(
            f"{config.artifacts} and outcomes={config.outcomes or 'null'} have finished trainings of {len(students)} "
            f"students besides {config.student.name}; accepted: at least {MIN_STUDENTS}, each scored before and after, "
            "with the BPC of its data (micota pipeline makes them), or a table of them as outcomes=FILE"
        )
    if not any(all(name in one.known for one in outcomes) for name in FEATURES):
        raise ConfigError(
            f"outcomes={config.outcomes}: no measure is known of all finished trainings; accepted: a table with one "
            f"of the columns {', '.join(FEATURES)}"
        )


def _node(config: ForecastConfig, outcomes: str) -> tuple[AnyNode, dict[str, Config]]:
    """The forecast, and the config of each artifact that it needs."""
    compare = config.compare
    labels = [point.label for point in compare.points("data")]
    wanted = replace(compare, axes={}, recipes=[*compare.recipes, *([] if BASELINE in labels else [BASELINE])])
    [case] = cases(replace(config, compare=wanted))
    by_name = {recipe.name: recipe.config for recipe in case.recipes}
    before = by_name.pop(BASELINE)
    # What other commands do not know, and this one needs again in another process.
    chosen = {key: item.partition("=")[2] for item in config.overrides if (key := override_key(item)) in OWN}
    node = replace(graph.forecast(config, by_name, before, outcomes), choose=chosen)
    if not node.spec.recipes:
        raise ConfigError(f"data=[{','.join(labels)}] has no recipe with data; accepted: recipes, as [strong,micota]")
    configs: dict[str, Config] = {node.folder: config}
    owners = {data_of_forecast(name): of_recipe for name, of_recipe in by_name.items()}
    for label, child in node.inputs.items():
        for made in child.walk():
            configs.setdefault(made.folder, owners.get(label, before))
    return node, configs


def forecast_table(node: AnyNode, rows: list[ForecastRow]) -> WideTable:
    """The expected gains, largest first."""
    table = new_table(
        f"{node.name}: expected gain in average accuracy, in points, with 95 % intervals, before training",
        "RSR: rank-surprisal ratio of the data under the student; rank > 10: share of tokens beyond rank 10",
    )
    table.add_column("recipe", no_wrap=True)
    for column in ("expected gain", "BPC", "RSR", "rank > 10, %", "tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: -row.gain):
        known = row.known
        gain = f"{100 * row.gain:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        measures = [f"{known['bits_per_byte']:.3f}", f"{known['rank_surprisal_ratio']:.2f}"]
        measures += [f"{100 * known['share_beyond_10']:.1f}", f"{known['num_tokens']:.0f}"]
        table.add_row(row.recipe, gain, *measures)
    return table


def _skill(metrics: Mapping[str, float], counts: Mapping[str, int]) -> str:
    """How good such forecasts are, in one sentence."""
    return (
        f"From {counts['outcomes']} trainings of {counts['students']} other students. When each of them is left out: "
        f"rank correlation over recipes {metrics['spearman']:+.2f}, {100 * metrics['coverage']:.0f} % of the intervals "
        f"hold the gain, mean error {100 * metrics['mean_error']:.1f} points."
    )
