"""A synthetic store: the graph of the toy experiment, finished, with made-up answers. For tests of reports."""

from __future__ import annotations

import random
from collections.abc import Sequence

import hydra
from conftest import case_of

from micota.artifacts.jsonl import write_jsonl
from micota.artifacts.store import Store
from micota.cli import app as commands
from micota.config import SCHEMAS, Call
from micota.data.sources import load_problems
from micota.graph import Comparison, comparison
from micota.graph.node import AnyNode
from micota.records import Completion, Score
from micota.report.collect import CaseReport, summarise

HOSTILE = "</script><b>bold</b><!-- <script>alert(1)</script> & 'quoted' \\boxed{4}"
PROFILES = {  # share of right answers, tokens per answer
    "instruct": (0.58, 36),
    "strong": (0.23, 153),
    "half_size": (0.30, 154),
    "short": (0.60, 36),
    "mix_long": (0.62, 36),
    "mix_large": (0.55, 40),
    "micota": (0.79, 91),
}
TEACHER = (0.97, 160)
BITS = {"strong": 0.62, "half_size": 0.6, "short": 0.21, "mix_long": 0.27, "mix_large": 0.24, "micota": 0.41}


def compare(seeds: Sequence[int], limit: int | None) -> dict[int, Comparison]:
    """The toy experiment by seed, on the first problems of each benchmark."""
    limits = [f"bench.{level}.limit={limit or 'null'}" for level in ("easy", "medium", "hard")]
    shared = ["experiment=tiny", "compare.merge_weights=[0.3,0.4,0.6,0.7]", *limits]
    with hydra.initialize_config_dir(str(commands.CONF), version_base="1.3"):
        recipes = [
            commands.prepare(hydra.compose("generate", [*shared, f"data={recipe}"]), SCHEMAS["generate"], Call())
            for recipe in PROFILES
        ]
    return {seed: comparison(case_of(recipes).at_seed(seed)) for seed in seeds}


def fill(store: Store, made: Comparison, seed: int) -> None:
    """Write the artifacts that a report reads: completions, scores and BPC of every model."""
    for recipe in made.recipes:
        answer_all(store, recipe.scores, seed, *PROFILES[recipe.name])
        if recipe.bpc is not None:
            with store.build(recipe.bpc, seed) as build:
                assert build is not None
                build.metrics |= {"bits_per_byte": BITS[recipe.name], "num_tokens": 1.0}
    for weight, nodes in made.curve.items():
        answer_all(store, nodes, seed, 0.9 - 0.3 * (weight - 0.4) ** 2, 40 + 115 * weight)
    answer_all(store, made.teacher, seed, *TEACHER)


def answer_all(store: Store, nodes: dict[str, AnyNode], seed: int, share: float, length: float) -> None:
    """Synthetic answers of one model to all benchmarks; harder ones are longer and less often right."""
    for shift, node in zip((-0.15, 0.0, 0.15), nodes.values(), strict=True):
        answers = node.inputs["completions"]
        if store.is_done(node):
            continue
        rng = random.Random(f"{node.name}, seed {seed}")  # keys change with every setting, and the answers with them
        rows = [
            answer(rng, problem.id, problem.answer, share - shift, length * (1 + shift))
            for problem in load_problems(node.spec.problems)
        ]
        with store.build(answers, seed) as build:
            assert build is not None
            write_jsonl(build.path / "completions.jsonl", [completion for completion, _ in rows])
        with store.build(node, seed) as build:
            assert build is not None
            write_jsonl(build.path / "scores.jsonl", [score for _, score in rows])


def answer(rng: random.Random, identity: str, gold: str, share: float, length: float) -> tuple[Completion, Score]:
    """One answer and its grade: right, wrong, cut off, or without a box."""
    num_tokens = min(280, max(8, round(rng.lognormvariate(0, 0.35) * length)))
    correct = rng.random() < share
    prediction = gold if correct else rng.choice([str((int(gold) + 1) % 10)] * 4 + [None])
    finish = "length" if prediction is None and rng.random() < 0.8 else "stop"
    num_tokens = 280 if finish == "length" else num_tokens
    text = "Wait, 7*8=56, so 6.\n" * (num_tokens // 8) + (f"\\boxed{{{prediction}}}" if prediction else HOSTILE)
    completion = Completion(
        problem_id=identity,
        sample=0,
        prompt_hash="",
        completion=text,
        finish_reason=finish,
        num_prompt_tokens=9,
        num_tokens=num_tokens,
        seconds=0.1,
    )
    score = Score(
        problem_id=identity,
        sample=0,
        prediction=prediction,
        correct=None if prediction is None else correct,
        answer=gold,
        reason="rule",
        grader="typed",
        graders={},
        finish_reason=finish,
        num_tokens=num_tokens,
    )
    return completion, score


def case_report(store: Store, seeds: Sequence[int], limit: int | None = 12) -> CaseReport:
    """A finished case, its artifacts written to ``store``."""
    by_seed = compare(seeds, limit)
    for seed, made in by_seed.items():
        fill(store, made, seed)
    return CaseReport(summary=summarise(store, "tiny", "tiny_student", by_seed), by_seed=by_seed)


def score(problem: str, sample: int, correct: bool, finish_reason: str = "stop") -> Score:
    """A grade that is nothing but right or wrong."""
    return Score(
        problem_id=problem,
        sample=sample,
        prediction="1",
        correct=correct,
        answer="1",
        reason="rule",
        grader="typed",
        graders={},
        finish_reason=finish_reason,
        num_tokens=3,
    )
