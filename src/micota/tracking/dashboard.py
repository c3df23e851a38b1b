"""A workspace and a report of one experiment in W&B, built by code: recipes grouped, sweeps as parallel coordinates.

They show all runs of the experiment, later ones included. The names of the plotted values are defined in ``lineage``
and ``runs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from micota.analysis.metrics import shown_ks
from micota.config import TrackerConfig
from micota.errors import ConfigError
from micota.tracking.runs import check_tracker

SWEPT = ("student", "recipe", "merge.method", "merge.density", "merge.weight", "sft.learning_rate", "seed")
INSTALL = "install it with:  pip install 'micota[dashboard]'"
MEASURED = ("eval/num_tokens", "eval/average")


def save(tracker: TrackerConfig, experiment: str, benchmarks: Mapping[str, int]) -> dict[str, str]:
    """Build the workspace and the report at W&B and return the address of each.

    ``benchmarks`` has the number of samples of each problem, by name.

    Raises:
        ConfigError: wandb-workspaces is not installed, runs are not tracked online, or there is no API key.
    """
    if find_spec("wandb_workspaces") is None:
        raise ConfigError(f"wandb=true needs the package wandb-workspaces, which is not installed; {INSTALL}")
    if tracker.name == "none" or tracker.mode == "offline":
        seen = "tracker=none" if tracker.name == "none" else "tracker.mode=offline"
        raise ConfigError(
            f"wandb=true with {seen}: a dashboard is built at W&B, from runs that are there; upload those that were "
            "tracked offline (wandb sync), then use tracker=wandb tracker.mode=online"
        )
    check_tracker(tracker)
    import wandb

    entity = tracker.entity or wandb.Api().default_entity
    views = {
        "workspace": workspace(entity, tracker.project, experiment, benchmarks),
        "report": report(entity, tracker.project, experiment, benchmarks),
    }
    return {name: view.save().url for name, view in views.items()}


def workspace(entity: str, project: str, experiment: str, benchmarks: Mapping[str, int]) -> Any:
    """Return a ``wandb_workspaces`` Workspace: evaluations of the experiment grouped by recipe, so that seeds become a
    mean and a range."""
    import wandb_workspaces.workspaces as ws

    sections = [
        ("Recipes", recipe_panels(benchmarks)),
        ("Sweeps", sweep_panels()),
        ("Training", training_panels()),
        ("Answers", table_panels(benchmarks)),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"micota: {experiment}",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections],
        runset_settings=ws.RunsetSettings(
            filters=f"Metric('Group') == '{experiment}'",
            groupby=[ws.Config("recipe")],
            pinned_columns=["run:displayName", "run:jobType", *(f"summary:{name}" for name in MEASURED)],
        ),
    )


def report(entity: str, project: str, experiment: str, benchmarks: Mapping[str, int]) -> Any:
    """Return a ``wandb_workspaces`` Report to read and share: comparisons, each with its filter in words."""
    import wandb_workspaces.reports.v2 as wr

    def runs(name: str, condition: str, **settings: Any) -> Any:
        filters = f"Metric('Group') == '{experiment}' and {condition}"
        return wr.Runset(entity=entity, project=project, name=name, filters=filters, **settings)

    students = "Metric('JobType') == 'evaluate' and Config('role') == 'student'"
    blocks = [
        wr.H1("Recipes"),
        wr.P(
            "Each student after training on the data of one recipe. Bars are means over a recipe's runs, marks their "
            "range."
        ),
        wr.PanelGrid(runsets=[runs("students", students)], panels=recipe_panels(benchmarks)),
        wr.H1("Sweeps"),
        wr.P("Every model with a merge upstream: the merged TA itself, and students trained on its data."),
        wr.PanelGrid(
            runsets=[
                runs("merged TA", "Config('role') == 'ta_merged'"),
                runs("students of it", f"{students} and Config('merge.density') >= 0"),
            ],
            panels=sweep_panels(),
        ),
        wr.H1("Training"),
        wr.PanelGrid(runsets=[runs("training", "Metric('JobType') == 'train'")], panels=training_panels()),
        wr.H1("Answers"),
        wr.P("Answers to the same problems for every recipe, side by side."),
        wr.PanelGrid(runsets=[runs("students", students)], panels=table_panels(benchmarks)),
    ]
    return wr.Report(entity=entity, project=project, title=f"micota: {experiment}", blocks=blocks, width="fluid")


def recipe_panels(benchmarks: Mapping[str, int]) -> list[Any]:
    """Return panels of accuracy, length, cost, pass@k and maj@k by recipe."""
    import wandb_workspaces.reports.v2 as wr

    metrics = [*MEASURED[::-1], *(f"eval/{bench}/accuracy" for bench in benchmarks), "bpc/bits_per_byte"]
    metrics += [f"eval/{bench}/tokens_per_right" for bench in benchmarks]
    metrics += [
        f"eval/{bench}/{kind}@{k}"
        for bench, count in benchmarks.items()
        for k in shown_ks(count)
        for kind in ("pass", "maj")
    ]
    return [
        wr.BarPlot(
            title=name,
            metrics=[wr.SummaryMetric(name)],
            groupby=wr.Config("recipe"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            layout=_grid_layout(index, columns=3),
        )
        for index, name in enumerate(metrics)
    ]


def sweep_panels() -> list[Any]:
    """Return panels of settings against results: all settings at once, then density and weight against length and
    accuracy."""
    import wandb_workspaces.reports.v2 as wr

    columns = [*map(wr.Config, SWEPT), *map(wr.SummaryMetric, MEASURED)]
    parallel = wr.ParallelCoordinatesPlot(
        title="settings against length and accuracy",
        columns=[wr.ParallelCoordinatesPlotColumn(metric) for metric in columns],
        layout=wr.Layout(x=0, y=0, w=24, h=10),
    )
    pairs = [(x, y) for y in MEASURED for x in ("merge.density", "merge.weight")]
    scatters = [
        wr.ScatterPlot(
            title=f"{y} by {x}", x=wr.Config(x), y=wr.SummaryMetric(y), layout=_grid_layout(index, columns=2, top=10)
        )
        for index, (x, y) in enumerate(pairs)
    ]
    length = wr.ScatterPlot(
        title="accuracy by length", x=wr.SummaryMetric(MEASURED[0]), y=wr.SummaryMetric(MEASURED[1]),
        layout=_grid_layout(len(pairs), columns=2, top=10),
    )  # fmt: skip
    return [parallel, *scatters, length]


def training_panels() -> list[Any]:
    """Return panels of the curves of fine-tuning."""
    import wandb_workspaces.reports.v2 as wr

    names = ("train/loss", "validation/loss", "train/learning_rate", "train/tokens_per_s")
    return [
        wr.LinePlot(title=name, y=[name], layout=_grid_layout(index, columns=2)) for index, name in enumerate(names)
    ]


def table_panels(benchmarks: Iterable[str]) -> list[Any]:
    """Return tables of scores and of answers."""
    import wandb_workspaces.reports.v2 as wr

    names = ["eval/scores", *(f"eval/{bench}/answers" for bench in benchmarks)]
    return [
        wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(x=0, y=12 * index, w=24, h=12))
        for index, name in enumerate(names)
    ]


def _grid_layout(index: int, columns: int, top: int = 0) -> Any:
    """Return the layout of a panel in a grid of equal panels; the grid is 24 units wide."""
    import wandb_workspaces.reports.v2 as wr

    width = 24 // columns
    return wr.Layout(x=index % columns * width, y=top + index // columns * 8, w=width, h=8)
