"""Plans against runs, and the table of prices in the README.

    python benchmarks/plan.py readme            # the rows of the README: each command on the machine beside it
    python benchmarks/plan.py toy artifacts     # the toy setting: one run to calibrate, a plan of another, that run

``toy`` runs the toy setting for one student and seed, plans it for the other student and another seed with the speeds
that the first run left, runs that, and prints planned and measured seconds of each kind of stage.
"""

from __future__ import annotations

import argparse
import resource
import shlex
from collections import defaultdict
from pathlib import Path

from rich.console import Console

import micota
from micota import graph
from micota.artifacts.store import Store
from micota.cli.composing import composing
from micota.cli.experiments import cases
from micota.cli.pipeline import pipeline
from micota.config import Config, TrainConfig
from micota.costs.context import Context
from micota.costs.machine import machine_of
from micota.costs.table import Costs, Row, costs_of, duration, estimate, number
from micota.graph.node import AnyNode
from micota.runtime.plan import tasks_of

NOTHING = "/nonexistent"  # a folder without artifacts: everything is to be made, and nothing was measured
# The commands of the README, each with the machine that it is priced for.
COMMANDS = (
    ("micota generate data=strong", "h100x8"),
    ("micota train role=ta", "h100x8"),
    ("micota merge merge.density=0.5 merge.weight=0.5", "h100x1"),
    ("micota generate data=micota", "h100x1"),
    ("micota train student=qwen1.5b data=micota", "h100x1"),
    ("micota evaluate student=qwen1.5b data=micota bench=paper", "h100x1"),
    ("micota pipeline experiment=micota student=qwen1.5b", "h100x8"),
)
HEADER = ("| command | `hardware=` | tokens | GPU time | GPUs x GiB | disk |", "|---|---|---|---|---|---|")
CALIBRATION = [
    "experiment=tiny",
    "tracker=none",
    "compare.recipes=[instruct,strong,micota]",
    "compare.merge_weights=[]",
]
OTHER = ["student=tiny2", "seed=1"]


def priced(line: str, hardware: str) -> tuple[Costs, Row]:
    """The costs of a command line of micota, and the row of what it makes itself; of a pipeline, all."""
    _, command, *overrides = shlex.split(line)
    words = [word for word in overrides if word != "plan=true"] + [f"hardware={hardware}"]
    config = micota.compose(words, command)
    configs: dict[str, Config] = {}
    if command == "pipeline":
        with composing(None):
            made = graph.experiment(cases(config))
        targets, configs = made.targets(), made.configs
    else:
        targets = targets_of(config, command)
    tasks = [(task.command, task.nodes) for task in tasks_of(graph.unique(targets))]
    costs = costs_of(config, Store(NOTHING), tasks, configs)
    return costs, costs.total if command == "pipeline" else costs.rows[-1]


def targets_of(config: Config, command: str) -> list[AnyNode]:
    """What one command makes."""
    match command:
        case "generate":
            return [graph.data(config, config.data)]
        case "train":
            assert isinstance(config, TrainConfig)
            return [graph.trained(config, config.role)]
        case "merge":
            return [graph.merged(config)]
        case _:
            return graph.evaluation(config)  # type: ignore[arg-type]


def readme_row(line: str, hardware: str) -> str:
    """One row of the README's table."""
    _, row = priced(line, hardware)
    tokens = " and ".join(
        f"{number(count)} {kind}"
        for kind, count in (("generated", row.generated), ("trained on", row.trained))
        if count
    )
    memory = f"{row.devices or 1} x {row.memory / 2**30:.0f}" if row.memory else "CPU"
    time = duration(row.device_seconds) if row.memory else f"{duration(row.seconds)} of a core"
    disk = f"{number(row.peak_disk)}B"
    label = line.removeprefix("micota ")
    return f"| `{label}` | `{hardware}` | {tokens or '-'} | {time} | {memory} | {disk} |"


def toy(folder: str) -> None:
    """Calibrate, plan and run the toy setting; print planned and measured seconds."""
    run([*CALIBRATION, f"artifacts={folder}"])
    words = [*CALIBRATION, *OTHER, f"artifacts={folder}"]
    config = micota.compose(words, "pipeline")
    with composing(None):
        made = graph.experiment(cases(config))
    store = Store(folder)
    context = Context(machine_of(config), store, config, made.configs)
    todo = [node for node in graph.unique(made.targets()) if not store.is_done(node)]
    planned: defaultdict[str, float] = defaultdict(float)
    for node in todo:
        planned[node.stage] += estimate(context, node).seconds
    used = run(words)
    measured: defaultdict[str, float] = defaultdict(float)
    for node in todo:
        manifest = store.manifest(node)
        assert manifest is not None
        measured[node.stage] += manifest.seconds
    print("| stage | planned, s | measured, s | planned over measured |\n|---|---|---|---|")
    for stage, seconds in planned.items():
        print(f"| {stage} | {seconds:.1f} | {measured[stage]:.1f} | {seconds / measured[stage]:.2f} |")
    total, taken = sum(planned.values()), sum(measured.values())
    print(f"| all | {total:.1f} | {taken:.1f} | {total / taken:.2f} |\n\nCPU seconds of the run: {used:.1f}")


def run(words: list[str]) -> float:
    """Run an experiment in this process; returns the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    config = micota.compose([*words, "runner=inprocess", "jobs=1"], "pipeline")
    with composing(None):
        every = cases(config)
    pipeline(config, every, Console(quiet=True))  # type: ignore[arg-type]
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("readme", "toy"))
    parser.add_argument("artifacts", nargs="?", default=NOTHING)
    options = parser.parse_args()
    if options.what == "readme":
        print("\n".join([*HEADER, *(readme_row(*command) for command in COMMANDS)]))
    else:
        if options.artifacts == NOTHING or Path(options.artifacts).exists():
            parser.error("toy needs a folder that does not exist yet")
        toy(options.artifacts)


if __name__ == "__main__":
    main()
