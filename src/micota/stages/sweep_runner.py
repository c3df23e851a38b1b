"""Measures merges one after another in one engine, and has the student measure their right answers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from micota.analysis.intervals import bounded_mean
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.quick_sums import read_summed, write_summed
from micota.checkpoint import Checkpoint
from micota.config import command_line
from micota.data.prompts import prompt_text, token_ids
from micota.data.sources import load_problems
from micota.engines import open_engine
from micota.engines.base import Engine, WeightLoader
from micota.engines.evaluator import Evaluator, scores_of
from micota.grading.graders import graders_of
from micota.graph import MergePointSpec, MergeSweepSpec
from micota.graph.merge_points import merge_point
from micota.graph.node import Node
from micota.merging.activations import activations_of, cut, information, weights_by_layer
from micota.merging.calibrate import Reading
from micota.merging.layers import layers, mean_weight, num_blocks, of_blocks
from micota.merging.models import Model, check_loads_in_place, tensor_names
from micota.merging.sweep import Sweep
from micota.merging.targets import Setting, Weights
from micota.pretrained import load_model
from micota.records import COMPLETIONS, Completion, MergePoint, Score
from micota.runtime.inputs import close_engine, template_of
from micota.runtime.work import Work
from micota.stages.sweep_students import student_value

ACTIVATIONS = "activations.json"
logger = logging.getLogger(__name__)


@dataclass
class Measured:
    """The points of a sweep so far; ``rights`` has the share of right answers to each problem by point."""

    points: list[MergePoint] = field(default_factory=list)
    rights: dict[str, dict[str, float]] = field(default_factory=dict)
    num_new: int = 0


class SweepRunner:
    """Measures merges one after another in one engine."""

    def __init__(
        self, work: Work[MergeSweepSpec], models: Sequence[Model], scratch: Path, advance: Callable[[MergePoint], None]
    ) -> None:
        self._work, self._models, self._advance = work, models, advance
        self._node, self._spec, self._store = work.node, work.node.spec, work.store
        self.names = tensor_names(models)
        self._sweep = Sweep(
            self._spec.merge,
            models[0].checkpoint,
            [model.checkpoint for model in models[1:]],
            self.names,
            self._spec.densities,
            scratch,
        )
        self._engine_name = work.build.engine
        self._problems = load_problems(self._spec.problems)
        self._by_id = {problem.id: problem for problem in self._problems}
        self.measured = Measured()

    @cached_property
    def _opened(self) -> tuple[Engine, WeightLoader, Evaluator]:
        """The engine, twice, and what it answers, opened for the first point that is not there yet."""
        if self._engine_name == "hf":
            check_loads_in_place(self._models[1], self.names)
        close_engine()  # of the student, which has answered since
        # The folder of the opened model: an adapter has been applied there.
        engine = open_engine(self._work.config.engine, str(self._models[1].folder), None, takes_weights=True)
        assert isinstance(engine, WeightLoader), "checked before the stage"
        template_of(self._node.inputs["tuned"], engine.tokenizer)
        spec = self._spec
        return engine, engine, Evaluator(spec.answers, spec.problems, self._problems, spec.grader, engine)

    def close(self) -> None:
        """Free what the engine holds; the next point opens it again."""
        if "_opened" in vars(self):
            self._opened[0].close()
            del self._opened

    def unmerged(self, form: str) -> MergePoint:
        """The point of the TA before or after SFT, without a merge."""
        model = self._unmerged_model(form)
        point = merge_point(self._node, form, None, None, self._spec.merge.seed)
        setting = {"form": form, "density": None, "weight": None, "seed": self._spec.merge.seed}
        return self._measure(point, lambda: _weights(model.checkpoint, self.names), **setting)

    def _unmerged_model(self, form: str) -> Model:
        # Where the base is another model, the TA before SFT is the last of the models.
        return self._models[1] if form == "after" else self._models[2 if len(self._models) > 2 else 0]

    @property
    def num_blocks(self) -> int:
        """The number of weights of a merge that evolution looks for."""
        return num_blocks(self.names, self._spec.num_blocks or 1)

    def readings(self, settings: Sequence[Setting]) -> list[Reading]:
        """The means over all seeds of merges with these densities and weights, in their order.

        Seed by seed: of a grid, only the masks of one seed are kept. All merges answer before the student measures any.
        """
        points: list[list[MergePoint]] = [[] for _ in settings]
        for seed in range(self._spec.merge.seed, self._spec.merge.seed + self._spec.num_seeds):
            for (density, weights), of_setting in zip(settings, points, strict=True):
                of_setting.append(self._merged(density, self._weight(weights), seed))
            if not self._spec.is_calibration:  # whose next merges need the masks again
                self._sweep.forget(seed)
        if self._spec.student is None:
            return [reading_of(each) for each in points]
        if self._work.config.engine.device != "cpu" and torch.cuda.is_available():
            self.close()  # the student needs its memory
        return [reading_of([self._with_student(point) for point in each]) for each in points]

    def reading(self, density: float, weight: float) -> Reading:
        """One of :meth:`readings`."""
        return self.readings([(density, weight)])[0]

    def _with_student(self, point: MergePoint) -> MergePoint:
        """The point with what the student measured."""
        setting = point.by_layer if point.by_layer is not None else point.weight
        node = merge_point(self._node, "merged", point.density, setting, point.seed)
        changed = replace(point, student_value=student_value(self._work, node))
        self.measured.points = [changed if one is point else one for one in self.measured.points]
        self._advance(changed)
        return changed

    def _weight(self, weights: Weights) -> Any:
        """The weight of a merge as ``merge.weight`` takes it."""
        if isinstance(weights, tuple):
            return of_blocks(self.names, weights)
        if self._spec.search == "activations":
            return weights_by_layer(self._shared, weights)
        return weights

    @cached_property
    def _shared(self) -> dict[str, float]:
        """By layer, the information that activations before and after SFT share, on answers of the TA after SFT. It is
        written, so that a run that goes on has the same bits; computed again where the file is damaged."""
        path = self._work.build.path / ACTIVATIONS
        content = read_summed(path)
        if content is None:
            self.close()
            node = merge_point(self._node, "after", None, None, self._spec.merge.seed)
            rows = read_jsonl(self._store.verified(node) / COMPLETIONS, Completion)
            tokenizer = self._models[1].tokenizer
            template_of(self._node.inputs["tuned"], tokenizer)
            prompt = self._spec.answers.prompt
            texts = [
                prompt_text(tokenizer, self._by_id[row.problem_id].problem, prompt) + row.completion for row in rows
            ]
            sequences = cut([token_ids(tokenizer, text) for text in texts])
            before, after = (self._activations(form, sequences) for form in ("before", "after"))
            shared = [information(*pair) for pair in zip(before, after, strict=True)]
            by_depth = layers(self.names)
            ranks = {depth: rank for rank, depth in enumerate(sorted(set(by_depth.values())))}
            content = {name: shared[ranks[depth]] for name, depth in by_depth.items()}
            write_summed(path, content)
        return content

    def _activations(self, form: str, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        device = self._work.config.engine.device
        device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        model: Any = load_model(self._unmerged_model(form).folder, None, dtype=self._work.config.engine.dtype)
        return activations_of(model.to(device).eval(), sequences)

    def _merged(self, density: float, weight: Any, seed: int) -> MergePoint:
        by_layer = weight if isinstance(weight, list) else None
        setting = {"form": "merged", "density": density, "weight": mean_weight(weight), "seed": seed}
        point = merge_point(self._node, "merged", density, weight, seed)
        weights = lambda: self._sweep.merge(density, weight, seed).tensors()  # noqa: E731
        return self._measure(point, weights, **setting, by_layer=by_layer)

    def _measure(
        self, node: Node[MergePointSpec], weights: Callable[[], Iterable[tuple[str, torch.Tensor]]], **setting: Any
    ) -> MergePoint:
        # Sweeps that run side by side share points: the second to reach a point waits for the first.
        config = self._work.config
        command = command_line(config.call, node.command, node.choose)
        with self._store.build(node, setting["seed"], config.name, command) as build:
            if build is not None:
                build.engine = self._engine_name
                _, loader, evaluator = self._opened
                start = time.perf_counter()
                loader.load_weights(weights())
                loaded = time.perf_counter()
                build.counts["completions"] = write_jsonl(build.path / COMPLETIONS, evaluator.answers())
                build.metrics |= {"merge_seconds": loaded - start, "answer_seconds": time.perf_counter() - loaded}
                self.measured.num_new += 1
        manifest = self._store.manifest(node)
        assert manifest is not None, "it was made above"
        rows = read_jsonl(self._store.verified(node) / COMPLETIONS, Completion)
        with graders_of(config.evaluation) as graders:
            scores = scores_of(rows, self._by_id, self._spec.problems.paper_rule, self._spec.grader, graders)
        self.measured.rights[node.folder] = rights(scores)
        point = MergePoint(
            **setting,
            **counts(rows, scores, has_tags=self._spec.answers.thinking.close is not None),
            merge_seconds=manifest.metrics["merge_seconds"],
            answer_seconds=manifest.metrics["answer_seconds"],
            artifact=node.folder,
        )
        logger.info("%s: %s", node.name, point)
        self.measured.points.append(point)
        self._advance(point)
        return point


def counts(rows: Sequence[Completion], scores: Sequence[Score], *, has_tags: bool) -> dict[str, Any]:
    """The counts and means of a point, as fields of ``MergePoint``. The interval of the accuracy and the error of the
    mean length are over problems."""
    lengths = by_problem([(row.problem_id, float(row.num_tokens)) for row in rows])
    accuracy = bounded_mean(np.array([*rights(scores).values()]))
    spread = float(np.std([*lengths.values()], ddof=1)) if len(lengths) > 1 else 0.0
    return {
        "num_problems": len(scores),
        "num_correct": sum(score.correct is True for score in scores),
        "num_truncated": sum(score.outcome == "truncated" for score in scores),
        "num_tokens": sum(score.num_tokens for score in scores) / len(scores),
        "tokens_error": spread / math.sqrt(len(lengths)),
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "num_closed": sum(row.num_cot_tokens is not None for row in rows) if has_tags else None,
    }


def rights(scores: Sequence[Score]) -> dict[str, float]:
    """The share of right answers to each problem."""
    return by_problem([(score.problem_id, float(score.correct is True)) for score in scores])


def by_problem(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values of each problem."""
    grouped: dict[str, list[float]] = {}
    for identity, value in values:
        grouped.setdefault(identity, []).append(value)
    return {identity: sum(each) / len(each) for identity, each in grouped.items()}


def reading_of(points: Sequence[MergePoint]) -> Reading:
    """The mean over ``points``, the seeds of one merge."""
    values = [point.student_value for point in points if point.student_value is not None]
    return Reading(
        density=points[0].density or 0.0,
        weight=points[0].weight or 0.0,
        accuracy=sum(point.num_correct for point in points) / sum(point.num_problems for point in points),
        num_tokens=sum(point.num_tokens for point in points) / len(points),
        value=sum(values) / len(values) if values else None,
        by_layer=points[0].by_layer,
    )


def _weights(checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a model, unmerged."""
    for name in names:
        entry = checkpoint.entries[name]
        yield name, checkpoint.read(name, 0, entry.num_elements).view(entry.shape)
