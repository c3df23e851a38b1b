"""A small evaluation in the middle of training: the model as it is answers the first problems of each benchmark."""

from __future__ import annotations

from typing import Any

from micota import graph
from micota.config import Config
from micota.data.sources import load_problems
from micota.engines.evaluator import Evaluator
from micota.engines.hf import HFEngine
from micota.grading.graders import graders_of
from micota.graph.node import AnyNode
from micota.graph.specs import ScoresSpec
from micota.sft import attention


class EvalDuringTraining:
    """Asks a model that is being trained, in place; of its own it holds the problems.

    Raises:
        SourceError: a benchmark cannot be read.
    """

    def __init__(self, config: Config, trained: AnyNode, model: Any, tokenizer: Any) -> None:
        self._evaluation = config.evaluation
        self._engine = HFEngine.around(model, tokenizer, config.engine.batch_size)
        self._benches = {}
        for name, node in graph.scores(config, "student", trained).items():
            problems = load_problems(node.spec.problems)[: config.trainer.evaluate_problems]
            spec: ScoresSpec = node.spec
            answers = node.inputs["completions"].spec
            self._benches[name] = Evaluator(answers, spec.problems, problems, spec.grader, self._engine)

    def __call__(self) -> dict[str, float]:
        """``eval/<bench>/accuracy`` and ``eval/<bench>/num_tokens``, the mean of answers. A problem whose prompt does
        not fit is not asked, and counts as not solved."""
        model = self._engine.model
        kernel = model.config._attn_implementation
        # The kernels of training know no cache.
        model.set_attn_implementation("eager" if attention.is_capped(model.config) else "sdpa")
        found: dict[str, float] = {}
        try:
            with graders_of(self._evaluation) as graders:
                for name, bench in self._benches.items():
                    rows = bench.answers()
                    right = sum(score.correct is True for score in bench.scores(rows, graders))
                    found[f"eval/{name}/accuracy"] = right / bench.num_wanted
                    found[f"eval/{name}/num_tokens"] = sum(row.num_tokens for row in rows) / len(rows)
        finally:
            model.set_attn_implementation(kernel)
        return found
