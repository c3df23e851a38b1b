"""Merges measured in memory: the engine loads the TA after SFT once, then the weights of one merge after another."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.text import Text

from micota.artifacts.jsonl import write_jsonl, write_text
from micota.checkpoint import Checkpoint
from micota.config import Config, command_line, override_key
from micota.console import print_table, progress_bar
from micota.data.sources import load_questions, model_folder
from micota.errors import SourceError
from micota.graph import MergeSpec, MergeSweepSpec
from micota.graph.merge_points import merge_order
from micota.graph.node import Node
from micota.merging.calibrate import Reading, calibrate
from micota.merging.layers import as_override
from micota.merging.models import Model, check_loads_in_place, open_models, tensor_names
from micota.merging.targets import Target, evolve, minimise
from micota.pretrained import CONFIG, load_config
from micota.records import POINTS, MergePoint
from micota.report.merge_sweep import most_accurate, sweep_page
from micota.report.sweep_table import sweep_table, with_ties
from micota.runtime.inputs import check_device, close_engine, model_location
from micota.runtime.work import Work
from micota.stages.merge_inputs import check_models
from micota.stages.sweep_runner import SweepRunner, reading_of

CHOICE = "calibration.json"
PAGE = "index.html"


def check(config: Config, node: Node[MergeSweepSpec]) -> None:
    """Refuse models that do not fit each other or an engine that merges in memory, and too few problems.

    Raises:
        ConfigError: the models differ, or transformers loads a tensor under another name.
        SourceError: a source has fewer problems than the sweep and the student answer.
    """
    check_models(config, node)
    base = node.inputs["base"]
    folder = Path(model_folder(base.spec.path)) if base.is_source else Path()
    if config.engine.name == "hf" and (folder / CONFIG).exists():  # one on the hub is checked when it is there
        with Checkpoint.open(folder) as checkpoint:
            model = Model(folder, load_config(folder), None, checkpoint)
            check_loads_in_place(model, tensor_names([model]))
    student = node.spec.student
    if student is not None and student.scores is not None:
        held_out = student.scores.problems
        count = len(load_questions(replace(node.spec.problems, limit=None)))
        needed = (held_out.skip - node.spec.problems.skip) + (held_out.limit or 0)
        if count < needed:
            raise SourceError(
                f"{held_out.path} has {count} problems, and merge_sweep.num_problems={node.spec.problems.limit} with "
                f"merge_sweep.num_held_out={held_out.limit} needs {needed}; accepted: fewer, or a larger source"
            )


def merge_sweep(work: Work[MergeSweepSpec]) -> None:
    """Measure a grid, or search for the merge that meets a target.

    Every point is a separate artifact, so that a restart or another sweep measures only the missing points.
    """
    spec = work.node.spec
    folders = [model_location(work.store, work.node.inputs[label]) for label in merge_order(work.node.inputs)]
    scratch = work.build.path / "scratch"
    check_device(work.config.engine.device, "engine.device")
    close_engine()  # frees its memory for the engine of the sweep
    with ExitStack() as stack:
        models = stack.enter_context(open_models(folders, scratch))
        bar = stack.enter_context(progress_bar(work.console, work.build.path))
        total = 2 + spec.num_merges * (1 if spec.student is None else 2)  # the TA before and after SFT, and merges
        task = bar.add_task(work.node.name, total=total, note="")

        def advance(point: MergePoint) -> None:
            note = f"{point.num_correct}/{point.num_problems}, {point.num_tokens:.0f} tokens"
            note += "" if point.student_value is None else f", student {point.student_value:.3f}"
            bar.update(task, advance=1, note=note)

        runner = SweepRunner(work, models, scratch, advance)
        stack.callback(runner.close)
        ends = [runner.unmerged("before"), runner.unmerged("after")]
        chosen = None
        if spec.is_calibration:
            chosen = _calibrate(work, runner, ends)
        else:
            runner.readings(list(itertools.product(spec.densities, spec.weights)))
    _write(work, runner, chosen)


def _write(work: Work[MergeSweepSpec], runner: SweepRunner, chosen: Reading | None) -> None:
    """Write the points and their page, and print them as a table."""
    measured = runner.measured
    points = {point.artifact: point for point in sorted(measured.points, key=_order_of)}
    marked = with_ties([*points.values()], measured.rights)
    write_jsonl(work.build.path / POINTS, marked)
    writes = _writing(work, marked) if chosen is None else None
    title = f"{work.node.name}: merges measured on {marked[0].num_problems} problems"
    write_text(work.build.path / PAGE, sweep_page(title, marked, writes))
    print_table(work.console, sweep_table(marked, work.node.spec.target, chosen))
    if writes is not None:
        work.console.print(Text(f"the most accurate of them as a model:  {writes}"))
    work.build.counts |= {
        "points": len(marked),
        "points_measured": measured.num_new,  # the others existed
        "problems": marked[0].num_problems,
    }
    work.build.metrics |= {
        "merge_seconds": sum(point.merge_seconds for point in marked),
        "answer_seconds": sum(point.answer_seconds for point in marked),
    }


def _writing(work: Work[MergeSweepSpec], points: Sequence[MergePoint]) -> str:
    """The command that writes the most accurate merge of a grid. It uses the masks of the first seed, because another
    seed would train another TA."""
    density, weight, _, _ = most_accurate(points)
    best = next(point for point in points if (point.density, point.weight) == (density, weight))
    kept = [item for item in work.config.overrides if "sweep" not in override_key(item)]
    kept = [item for item in kept if override_key(item) != "merge.search"]
    chosen = {"merge.density": f"{density:g}", "merge.weight": as_override(best.by_layer or weight)}
    return command_line(replace(work.config.call, overrides=kept), "merge", chosen)


def _order_of(point: MergePoint) -> tuple[Any, ...]:
    """Sort key of points in the file: the TA before and after SFT come first."""
    return ("before", "after", "merged").index(point.form), point.density or 0, point.weight or 0, point.seed


def _calibrate(work: Work[MergeSweepSpec], runner: SweepRunner, ends: Sequence[MergePoint]) -> Reading:
    """Search for the merge that meets the target, and write the chosen one and the whole curve."""
    spec = work.node.spec
    before, after = reading_of([ends[0]]), reading_of([ends[1]])
    if spec.target is None:
        assert spec.target_length_ratio and spec.tolerance and spec.num_steps
        wanted: dict[str, Any] = {"target_tokens": spec.target_length_ratio * after.num_tokens}
        chosen, readings = calibrate(
            runner.reading, wanted["target_tokens"], before, after, spec.densities, spec.weights, spec.tolerance,
            spec.num_steps,
        )  # fmt: skip
    else:
        target = Target(
            spec.target,
            max(before.accuracy, after.accuracy) - spec.accuracy_loss if spec.accuracy_loss is not None else 0.0,
        )
        wanted = {"least_accuracy": target.bound}
        readings = _search(spec, runner, target)
        chosen = target.chosen(readings)
    content = {
        "target": spec.target,
        "target_length_ratio": spec.target_length_ratio,
        **wanted,
        "chosen": asdict(chosen),
        "before": asdict(before),
        "after": asdict(after),
        "curve": [asdict(reading) for reading in sorted(readings, key=lambda r: (r.density, r.weight))],
    }
    write_text(work.build.path / CHOICE, json.dumps(content, indent=2) + "\n")
    work.build.metrics |= {
        "density": chosen.density,
        "weight": chosen.weight,
        "accuracy": chosen.accuracy,
        "length_ratio": chosen.num_tokens / after.num_tokens,
    }
    work.build.metrics |= {} if chosen.value is None else {"student_value": chosen.value}
    return chosen


def _search(spec: MergeSweepSpec, runner: SweepRunner, target: Target) -> list[Reading]:
    """All merges that are measured for a target."""
    if spec.num_points is None:
        return minimise(runner.readings, target, spec.densities, spec.weights, spec.num_steps or 0)
    middle = sum(spec.weights) / len(spec.weights)
    return evolve(
        runner.readings, target, spec.densities[0], middle, runner.num_blocks, spec.num_points, spec.merge.seed
    )


def calibrated(spec: MergeSpec, folder: Path) -> MergeSpec:
    """``spec`` with the density and weight that a finished calibration chose."""
    chosen = json.loads((folder / CHOICE).read_text(encoding="utf-8"))["chosen"]
    return replace(spec, density=chosen["density"], weight=chosen.get("by_layer") or chosen["weight"])
