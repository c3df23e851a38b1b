"""Evaluation during training: the current model answers the first problems of each benchmark."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from micota import graph
from micota.config import Config
from micota.data.sources import load_problems
from micota.engines.evaluator import Evaluator
from micota.engines.hf import HFEngine
from micota.grading.graders import graders_of
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec
from micota.sft.answering import answering
from micota.sft.callbacks import StepMetrics
from micota.sft.sharding import gathered


class EvalDuringTraining(Callback):
    """Grades the answers of the current model, in memory, every ``trainer.evaluate_every`` steps.

    Training does not change: every step seeds its random numbers.

    Raises:
        SourceError: a benchmark cannot be read.
    """

    def __init__(self, metrics: StepMetrics, config: Config, trained: AnyNode, model: Any, tokenizer: Any) -> None:
        self._metrics = metrics
        self._every = config.trainer.evaluate_every
        self._evaluation = config.evaluation
        self._engine = HFEngine.around(model, tokenizer, config.engine.rows)
        self._benches = {}
        for name, node in graph.scores(config, "student", trained).items():
            problems = load_problems(node.spec.problems)[: config.trainer.evaluate_problems]
            spec: ScoresSpec = node.spec
            answers = node.inputs["completions"].spec
            self._benches[name] = Evaluator(answers, spec.problems, problems, spec.grader, self._engine)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._every and trainer.global_step % self._every == 0:
            in_eval_mode = self._metrics.in_eval_mode(trainer, pl_module)
            with in_eval_mode as metrics, gathered(pl_module.objective):
                metrics.update(self.evaluate())

    def evaluate(self) -> dict[str, float]:
        """``eval/<bench>/accuracy`` and ``eval/<bench>/num_tokens``, the mean over answers. A problem whose prompt does
        not fit the context counts as not solved."""
        metrics: dict[str, float] = {}
        with answering(self._engine.model), graders_of(self._evaluation) as graders:
            for name, bench in self._benches.items():
                rows = bench.answers()
                right = sum(score.correct is True for score in bench.scores(rows, graders))
                metrics[f"eval/{name}/accuracy"] = right / bench.num_wanted
                metrics[f"eval/{name}/num_tokens"] = sum(row.num_tokens for row in rows) / len(rows)
        return metrics
