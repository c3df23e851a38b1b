"""Completions -> graded scores; data and a model -> bits per character."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.analysis.bpc import bits_per, example_scores
from micota.answers import extract_boxed, is_correct
from micota.artifacts import read_jsonl, write_jsonl
from micota.console import progress_bar
from micota.graph import ScoresSpec
from micota.packing import tokenise
from micota.records import NOT_ASKED, Completion, Example, ExampleScore, Problem, Score
from micota.sources import load_problems
from micota.stages.generate import COMPLETIONS, DATA
from micota.stages.inputs import check_device, input_path, model_location
from micota.stages.make import Work
from micota.statistics import wilson

SCORES = "scores.jsonl"
BPC = "bpc.jsonl"


def grade(work: Work) -> None:
    """Grade stored completions. Missing is not wrong: truncated, without an answer and incorrect are counted apart,
    though none of them counts as right."""
    spec: ScoresSpec = work.node.spec
    problems = {problem.id: problem for problem in load_problems(spec.problems)}
    folder = input_path(work.store, work.node.inputs["completions"])
    rows = read_jsonl(folder / COMPLETIONS, Completion)
    order = {identity: index for index, identity in enumerate(problems)}
    texts = {(row.problem_id, row.sample): row.completion for row in rows}
    scores = [graded(row, problems[row.problem_id], spec.grader) for row in rows]
    # Every problem has a score, so that all models are judged on the same ones, also where one could not be asked.
    scores += [not_asked(problem, spec.grader) for problem in problems.values() if (problem.id, 0) not in texts]
    scores.sort(key=lambda score: (order[score.problem_id], score.sample))
    write_jsonl(work.build.path / SCORES, scores)
    right = sum(score.correct is True for score in scores)
    work.build.counts |= {"scores": len(scores)} | Counter(score.outcome for score in scores)
    accuracy = wilson(right, len(scores))
    work.build.metrics |= {
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "num_tokens": sum(score.num_tokens for score in scores) / len(scores),
    }
    benchmark = work.node.name.rpartition("@")[2]
    work.run.log(
        {f"eval/{benchmark}/accuracy": accuracy.value, f"eval/{benchmark}/num_tokens": work.build.metrics["num_tokens"]}
    )
    columns = ["problem_id", "problem", "answer", "prediction", "outcome", "num_tokens", "completion"]
    table = [
        [
            s.problem_id,
            problems[s.problem_id].problem,
            s.answer,
            s.prediction,
            s.outcome,
            s.num_tokens,
            texts.get((s.problem_id, s.sample)),
        ]
        for s in scores
    ]
    work.run.table(f"eval/{benchmark}/answers", columns, table)


def not_asked(problem: Problem, grader: str) -> Score:
    """The score of a problem whose prompt leaves no room for an answer."""
    return Score(
        problem_id=problem.id,
        sample=0,
        prediction=None,
        correct=None,
        answer=problem.answer,
        grader=grader,
        finish_reason=NOT_ASKED,
        num_tokens=0,
    )


def graded(row: Completion, problem: Problem, grader: str) -> Score:
    """The verdict on one completion."""
    prediction = extract_boxed(row.completion)
    return Score(
        problem_id=row.problem_id,
        sample=row.sample,
        prediction=prediction,
        correct=None if prediction is None else is_correct(prediction, problem.answer),
        answer=problem.answer,
        grader=grader,
        finish_reason=row.finish_reason,
        num_tokens=row.num_tokens,
    )


def measure(work: Work) -> None:
    """Bits per character of an arm's data under the untouched student."""
    check_device(work.config.trainer.accelerator, "trainer")
    folder, revision = model_location(work.store, work.node.inputs["model"])
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, revision=revision)
    dtype = torch.float32 if work.node.spec.precision == "32-true" else torch.bfloat16  # as generation has it
    model: Any = AutoModelForCausalLM.from_pretrained(folder, revision=revision, dtype=dtype)
    model.to("cuda" if work.config.trainer.accelerator == "gpu" else "cpu").eval()
    examples = read_jsonl(input_path(work.store, work.node.inputs["data"]) / DATA, Example)
    tokens = [tokenise(tokenizer, example) for example in examples]
    rows: list[ExampleScore] = []
    with progress_bar(work.console) as bar:
        task = bar.add_task(work.node.name, total=len(examples), note="")
        for row in example_scores(model, examples, tokens, work.config.trainer.row_batch):
            rows.append(row)
            bar.update(task, advance=1, note="")
    rows.sort(key=lambda row: row.problem_id)
    write_jsonl(work.build.path / BPC, rows)
    work.build.counts["examples"] = len(rows)
    work.build.metrics |= {
        "bits_per_byte": bits_per(rows, "bytes"),
        "bits_per_character": bits_per(rows, "characters"),
        "num_tokens": sum(row.num_tokens for row in rows) / len(rows),
    }
    work.run.log({"data/bits_per_byte": work.build.metrics["bits_per_byte"]})
