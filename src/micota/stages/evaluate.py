"""evaluate.py: answers drawn and graded, stored answers graded again, or a file of anyone's answers graded."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from micota import graph
from micota.artifacts import ArtifactError, Store, read_jsonl
from micota.config import EvaluateConfig, without_keys
from micota.console import open_console
from micota.records import SCORES, Node, Score
from micota.stages.grade_file import grade_file
from micota.stages.grading import by_problem, summarise
from micota.stages.make import make
from micota.statistics import macro_average, problem_means

OUTCOMES = ("incorrect", "truncated", "no_answer", "ungradable", "not_asked")


def evaluate(config: EvaluateConfig) -> None:
    """Make the scores that the config asks for and show them as a table."""
    if config.grade is not None:
        grade_file(config)
        return
    console = open_console()
    targets = graph.evaluation(config)
    if config.regrade and not config.plan:
        forget_scores(config, targets)
    make(config, "evaluate", targets, console)
    if not config.plan:
        console.print(results_table(Store(config.artifacts), targets))


def forget_scores(config: EvaluateConfig, targets: list[Node]) -> None:
    """Take away finished scores, so that they are made again from the completions.

    Raises:
        ArtifactError: there are no completions; nothing is taken away.
    """
    store = Store(config.artifacts)
    graded = [node for node in targets if node.stage == "grade"]
    for node in graded:
        completions = node.inputs["completions"]
        if not store.is_done(completions):
            again = " ".join(["python evaluate.py", *without_keys(config.overrides, {"regrade"})])
            raise ArtifactError(
                f"regrade=true needs completions {completions.name} ({completions.folder}), which do not exist; "
                f"draw them with:  {again}"
            )
    for node in graded:
        store.forget(node)


def results_table(store: Store, targets: list[Node]) -> Table:
    """Accuracy with interval and the ways of not being right, by benchmark."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", title_justify="left", title_style="bold")
    graded = [node for node in targets if node.stage == "grade"]
    rows = {node.name.rpartition("@")[2]: read_jsonl(store.path(node) / SCORES, Score) for node in graded}
    summaries = {bench: summarise(scores) for bench, scores in rows.items()}
    num_samples = max(summary["num_samples"] for summary in summaries.values())
    graders = sorted({name for summary in summaries.values() for name in summary["graders"]})
    grader = graded[0].spec.grader
    measure = "accuracy" if num_samples == 1 else f"avg@{num_samples}"
    table.title = f"{graded[0].name.rpartition('@')[0]}: {measure} in % by {grader}, with 95 % intervals"
    table.add_column("benchmark", no_wrap=True)
    for column in ("problems", measure, "interval", *OUTCOMES, "tokens", *(f"by {n}" for n in graders if n != grader)):
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for bench, found in summaries.items():
        table.add_row(
            bench,
            str(found["num_problems"]),
            f"{100 * found['accuracy']:.1f}",
            f"{100 * found['low']:.1f} to {100 * found['high']:.1f}",
            *(str(found["outcomes"].get(outcome, 0)) for outcome in OUTCOMES),
            f"{found['num_tokens']:.0f}",
            *(f"{100 * found['graders'].get(name, 0):.1f}" for name in graders if name != grader),
        )
    if len(rows) > 1:
        average = macro_average({bench: problem_means(by_problem(scores)) for bench, scores in rows.items()})
        interval = f"{100 * average.low:.1f} to {100 * average.high:.1f}"
        table.add_section()
        table.add_row("average", "", f"{100 * average.value:.1f}", interval, style="bold")
    table.caption = str(Text("where graders differ: disagreements.md beside the scores"))
    return table
