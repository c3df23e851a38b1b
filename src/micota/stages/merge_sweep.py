"""Merges measured in memory: the engine loads the TA after SFT once, then the weights of one merge after another."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from micota.artifacts.jsonl import read_jsonl, write_jsonl, write_text
from micota.checkpoint import Checkpoint
from micota.config import ENGINES, Config, command_line, override_key
from micota.console import progress_bar
from micota.data.sources import load_problems
from micota.engines import open_engine
from micota.engines.base import Engine, WeightLoader
from micota.engines.evaluator import Evaluator, scores_of
from micota.errors import ConfigError
from micota.grading.graders import graders_of
from micota.graph import MergePointSpec, MergeSpec, MergeSweepSpec, merge_point
from micota.graph.node import AnyNode, Node
from micota.merging.calibrate import Reading, calibrate
from micota.merging.models import Model, check_loads_in_place, open_models, tensor_names
from micota.merging.sweep import Sweep
from micota.records import COMPLETIONS, POINTS, Completion, MergePoint
from micota.report.merge_sweep import most_accurate, sweep_page
from micota.runtime.inputs import check_device, close_engine, model_location, template_of
from micota.runtime.work import Work
from micota.stages.merge_inputs import check_models

CHOICE = "calibration.json"
PAGE = "index.html"
logger = logging.getLogger(__name__)


def check(config: Config, node: AnyNode) -> None:
    """Refuse models that do not fit each other, and engines that cannot load other weights while they are open.

    Raises:
        ConfigError: the engine is neither ``hf`` nor ``vllm`` on one device, or the models differ.
    """
    check_models(config, node)
    engine = config.engine
    if not ENGINES[engine.name].takes_weights or engine.parts > 1:
        able = " or ".join(f"engine={name}" for name, kind in ENGINES.items() if kind.takes_weights)
        raise ConfigError(
            f"engine={engine.name} with engine.tensor_parallel={engine.parts} cannot take the weights of one "
            f"merge after another; accepted for a merge sweep or a calibration: {able}, on one device"
        )


def merge_sweep(work: Work[MergeSweepSpec]) -> None:
    """Measure a grid, or search for the merge with the target length.

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
        task = bar.add_task(work.node.name, total=_expected(spec), note="")

        def advance(point: MergePoint) -> None:
            note = f"{point.num_correct}/{point.num_problems}, {point.num_tokens:.0f} tokens"
            bar.update(task, advance=1, note=note)

        runner = SweepRunner(work, models, scratch, advance)
        stack.callback(runner.close)
        ends = [runner.unmerged("before"), runner.unmerged("after")]
        if spec.target_length_ratio is None:
            runner.grid()
        else:
            _calibrate(work, runner, ends)
    write_jsonl(work.build.path / POINTS, sorted(runner.points, key=_order_of))
    title = f"{work.node.name}: merges measured on {ends[0].num_problems} problems"
    writes = _writing(work, runner.points) if spec.target_length_ratio is None else None
    write_text(work.build.path / PAGE, sweep_page(title, runner.points, writes))
    if writes is not None:
        work.console.print(Text(f"the most accurate of them as a model:  {writes}"))
    work.build.counts |= {
        "points": len(runner.points),
        "points_measured": runner.num_measured,  # the others existed
        "problems": ends[0].num_problems,
    }
    work.build.metrics |= {
        "merge_seconds": sum(point.merge_seconds for point in runner.points),
        "answer_seconds": sum(point.answer_seconds for point in runner.points),
    }


def _writing(work: Work[MergeSweepSpec], points: Sequence[MergePoint]) -> str:
    """The command that writes the most accurate merge of a grid. It uses the masks of the first seed, because another
    seed would train another TA."""
    density, weight, _, _ = most_accurate(points)
    kept = [item for item in work.config.overrides if "sweep" not in override_key(item)]
    chosen = {"merge.density": f"{density:g}", "merge.weight": f"{weight:g}"}
    return command_line(replace(work.config.call, overrides=kept), "merge", chosen)


def merge_order(labels: Iterable[str]) -> list[str]:
    """The labels of the inputs of a merge in order: base, the TA after SFT, and the TA before SFT if base is another
    model."""
    return [label for label in ("base", "tuned", "instruct") if label in labels]


def _expected(spec: MergeSweepSpec) -> int:
    return 2 + len(spec.densities) * len(spec.weights) * spec.num_seeds


class SweepRunner:
    """Measures merges one after another in one engine."""

    def __init__(
        self, work: Work[MergeSweepSpec], models: Sequence[Model], scratch: Path, advance: Callable[[MergePoint], None]
    ) -> None:
        self._node, self._spec, self._store = work.node, work.node.spec, work.store
        self._experiment = work.config.name
        self._models = models
        self._evaluation = work.config.evaluation
        self._names = tensor_names(models)
        self._sweep = Sweep(
            self._spec.merge,
            models[0].checkpoint,
            [model.checkpoint for model in models[1:]],
            self._names,
            self._spec.densities,
            scratch,
        )
        self._engine_name = work.build.engine
        self._engine_config = work.config.engine
        self._problems = load_problems(self._spec.problems)
        self._by_id = {problem.id: problem for problem in self._problems}
        self.points: list[MergePoint] = []
        self.num_measured = 0
        self._advance = advance

    @cached_property
    def _opened(self) -> tuple[Engine, WeightLoader, Evaluator]:
        """The engine, twice, and what it answers, opened for the first point that is not there yet."""
        if self._engine_name == "hf":
            check_loads_in_place(self._models[1], self._names)
        # The folder of the opened model: an adapter has been applied there.
        engine = open_engine(self._engine_config, str(self._models[1].folder), None, takes_weights=True)
        assert isinstance(engine, WeightLoader), "checked before the stage"
        template_of(self._node.inputs["tuned"], engine.tokenizer)
        spec = self._spec
        return engine, engine, Evaluator(spec.answers, spec.problems, self._problems, spec.grader, engine)

    def close(self) -> None:
        """Free what the engine holds."""
        if "_opened" in vars(self):
            self._opened[0].close()

    def unmerged(self, form: str) -> MergePoint:
        """The point of the TA before or after SFT, without a merge."""
        # Where the base is another model, the TA before SFT is the last of the models.
        model = self._models[1] if form == "after" else self._models[2 if len(self._models) > 2 else 0]
        point = merge_point(self._node, form, None, None, self._spec.merge.seed)
        setting = {"form": form, "density": None, "weight": None, "seed": self._spec.merge.seed}
        return self._measure(point, lambda: _weights(model.checkpoint, self._names), **setting)

    def grid(self) -> None:
        """Measure every merge of the grid, seed by seed: only the masks of one seed are kept."""
        for seed in self._seeds():
            for density, weight in itertools.product(self._spec.densities, self._spec.weights):
                self._merged(density, weight, seed)
            self._sweep.forget(seed)

    def reading(self, density: float, weight: float) -> Reading:
        """The mean over all seeds of the merges with this density and weight."""
        return reading_of([self._merged(density, weight, seed) for seed in self._seeds()])

    def _seeds(self) -> range:
        return range(self._spec.merge.seed, self._spec.merge.seed + self._spec.num_seeds)

    def _merged(self, density: float, weight: float, seed: int) -> MergePoint:
        setting = {"form": "merged", "density": density, "weight": weight, "seed": seed}
        point = merge_point(self._node, "merged", density, weight, seed)
        return self._measure(point, lambda: self._sweep.merge(density, weight, seed).tensors(), **setting)

    def _measure(
        self, node: Node[MergePointSpec], weights: Callable[[], Iterable[tuple[str, torch.Tensor]]], **setting: Any
    ) -> MergePoint:
        # Sweeps that run side by side share points: the second to reach a point waits for the first.
        with self._store.build(node, setting["seed"], self._experiment, wait=True) as build:
            if build is not None:
                build.engine = self._engine_name
                _, loader, evaluator = self._opened
                start = time.perf_counter()
                loader.load_weights(weights())
                loaded = time.perf_counter()
                build.counts["completions"] = write_jsonl(build.path / COMPLETIONS, evaluator.answers())
                build.metrics |= {"merge_seconds": loaded - start, "answer_seconds": time.perf_counter() - loaded}
                self.num_measured += 1
        manifest = self._store.manifest(node)
        assert manifest is not None, "it was made above"
        rows = read_jsonl(self._store.verified(node) / COMPLETIONS, Completion)
        with graders_of(self._evaluation) as graders:
            scores = scores_of(rows, self._by_id, self._spec.problems.paper_rule, self._spec.grader, graders)
        point = MergePoint(
            **setting,
            num_problems=len(scores),
            num_correct=sum(score.correct is True for score in scores),
            num_truncated=sum(score.outcome == "truncated" for score in scores),
            num_tokens=sum(score.num_tokens for score in scores) / len(scores),
            merge_seconds=manifest.metrics["merge_seconds"],
            answer_seconds=manifest.metrics["answer_seconds"],
            artifact=node.folder,
        )
        logger.info("%s: %s", node.name, point)
        self.points.append(point)
        self._advance(point)
        return point


def _weights(checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a model, unmerged."""
    for name in names:
        entry = checkpoint.entries[name]
        yield name, checkpoint.read(name, 0, entry.num_elements).view(entry.shape)


def _order_of(point: MergePoint) -> tuple[Any, ...]:
    """Sort key of points in the file: the TA before and after SFT come first."""
    return ("before", "after", "merged").index(point.form), point.density or 0, point.weight or 0, point.seed


def reading_of(points: Sequence[MergePoint]) -> Reading:
    """The mean over ``points``, the seeds of one merge."""
    return Reading(
        density=points[0].density or 0.0,
        weight=points[0].weight or 0.0,
        accuracy=sum(point.num_correct for point in points) / sum(point.num_problems for point in points),
        num_tokens=sum(point.num_tokens for point in points) / len(points),
    )


def _calibrate(work: Work[MergeSweepSpec], runner: SweepRunner, ends: Sequence[MergePoint]) -> None:
    """Search for the target length, and write the chosen merge and the whole curve."""
    spec = work.node.spec
    assert spec.target_length_ratio and spec.tolerance and spec.num_steps
    before, after = reading_of([ends[0]]), reading_of([ends[1]])
    target = spec.target_length_ratio * after.num_tokens
    chosen, readings = calibrate(
        runner.reading, target, before, after, spec.densities, spec.weights, spec.tolerance, spec.num_steps
    )
    content = {
        "target_length_ratio": spec.target_length_ratio,
        "target_tokens": target,
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


def calibrated(spec: MergeSpec, folder: Path) -> MergeSpec:
    """``spec`` with the density and weight that a finished calibration chose."""
    chosen = json.loads((folder / CHOICE).read_text(encoding="utf-8"))["chosen"]
    return replace(spec, density=chosen["density"], weight=chosen["weight"])
