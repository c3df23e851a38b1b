"""Time and memory at a size and at twice that size, each in a process of its own.

    python benchmarks/scale.py [--only select,grade] [--rows 50000]

Linear work has a ratio of 2 beyond what a process takes to start, which ``start`` shows. CPU seconds count all
processes of a stage. Peak memory is that of its main process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scale_report
from rich.console import Console

import micota
from micota import graph
from micota.analysis.statistics import mcnemar, paired_difference
from micota.artifacts.jsonl import json_line
from micota.artifacts.store import Store
from micota.cli.composing import composing
from micota.cli.experiments import cases
from micota.graph.node import AnyNode
from micota.records import COMPLETIONS, SCORES
from micota.runtime.plan import tasks_of

THOUGHT = "Then the sum is carried on, number by number, as before. "  # 57 characters
STUDENTS = ("tiny", "tiny2", "qwen0.5b", "qwen1.5b", "qwen3b", "qwen7b", "qwen14b", "llama1b", "llama3b", "llama8b")
RECIPES = "[instruct,strong,short,long,large,small,micota,mix_long]"
Prepared = Callable[[], object]


def start(size: int, folder: Path) -> Prepared:
    """Nothing: what a process takes to start."""
    return lambda: None


def plan(size: int, folder: Path) -> Prepared:
    """The graph of ``size`` students x 8 recipes x 5 settings of the teacher."""
    teachers = ",".join(f"{{t{index}: ['teacher.sampling.top_p=0.{index}']}}" for index in range(5, 10))
    axes = f"{{student: [{','.join(STUDENTS[:size])}], teacher: [{teachers}]}}"
    words = ["experiment=tiny", f"+compare.axes={axes}", f"compare.recipes={RECIPES}"]
    config = micota.compose(words, "pipeline")

    def work() -> None:
        with composing(None):
            every = cases(config)
        graph.unique(graph.experiment(every).targets())

    return work


def sides(size: int) -> list[dict[str, float]]:
    generator = np.random.default_rng(0)
    return [{str(index): float(right) for index, right in enumerate(generator.random(size) < 0.5)} for _ in range(2)]


def discordance(size: int, folder: Path) -> Prepared:
    """McNemar's exact test on ``size`` problems."""
    first, second = sides(size)
    return lambda: mcnemar(first, second)


def sign_test(size: int, folder: Path) -> Prepared:
    """The sign-flip test on ``size`` problems."""
    first, second = sides(size)
    return lambda: paired_difference({"": first}, {"": second})


def select(size: int, folder: Path) -> Prepared:
    """``size`` rows of a file as training data, with the default filters of the toy setting."""
    return rows_of_file(size, folder, thoughts=10)


def select_long(size: int, folder: Path) -> Prepared:
    """A tenth of ``size`` rows of twenty times the length."""
    return rows_of_file(size // 10, folder, thoughts=200)


def rows_of_file(size: int, folder: Path, thoughts: int) -> Prepared:
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as handle:
        for index in range(size):
            text = THOUGHT * random.Random(index).randint(thoughts // 2, thoughts)
            row = {"problem": f"What is {index} + 1?", "solution": f"{text}\\boxed{{{index + 1}}}", "answer": index + 1}
            handle.write(json_line(row | {"num_tokens": len(text) // 4}))
    words = ["experiment=tiny", "tracker=none", f"artifacts={folder}", f"data.path={folder / 'rows.jsonl'}"]
    words += ["data.generator=none", "select.num_examples=null", "select.filters=[finished,correct,duplicates]"]
    words += ["select.decontaminate=none", "select.max_tokens=100000", "data.columns={num_tokens: num_tokens}"]
    config = micota.compose([*words, "evaluation.num_workers=1"], "generate")
    node = graph.data(config, config.data)
    return lambda: perform(config, node)


def grade(size: int, folder: Path) -> Prepared:
    """``size`` stored completions, 8 to a problem, graded by every grader."""
    config, node = evaluated(size, folder)
    with Store(str(folder)).build(node.inputs["completions"], 0) as build:
        assert build is not None
        write_completions(build.path / COMPLETIONS, size)
    return lambda: perform(config, node)


def resume(size: int, folder: Path) -> Prepared:
    """Generation that goes on where all ``size`` completions are there, and only the manifest is missing."""
    config, node = evaluated(size, folder)
    completions = node.inputs["completions"]
    partial = Store(str(folder)).partial(completions)
    partial.mkdir(parents=True)
    write_completions(partial / COMPLETIONS, size)
    return lambda: perform(config, completions)


def report(size: int, folder: Path) -> Prepared:
    """The summary and the page's answers of a model with ``size`` graded completions."""
    from micota.report.answers import answers
    from micota.report.read import lengths_of, load
    from micota.report.rows import row

    _, node = evaluated(size, folder)
    store = Store(str(folder))
    with store.build(node.inputs["completions"], 0) as build:
        assert build is not None
        write_completions(build.path / COMPLETIONS, size)
    with store.build(node, 0) as build:
        assert build is not None
        write_scores(build.path / SCORES, size)

    def work() -> None:
        made = row("model", [load(store, {"bench": node})])
        replace(made, lengths=lengths_of(store, [{"bench": node}]))
        json.dumps(answers(store, [{"bench": node}]))

    return work


def evaluated(size: int, folder: Path) -> tuple[Any, AnyNode]:
    """The evaluation of the toy student on ``size`` / 8 problems, with 8 samples each."""
    with open(folder / "bench.jsonl", "w", encoding="utf-8") as handle:
        for index in range(size // 8):
            handle.write(
                json_line({"id": str(index), "problem": f"Mia has {index % 9} pens:+1 mod 10?", "answer": "7"})
            )
    words = ["experiment=tiny", "tracker=none", f"artifacts={folder}", f"bench.path={folder / 'bench.jsonl'}"]
    words += ["data=instruct", "num_samples=8", "temperature=0.8", "evaluation.num_workers=1"]
    config = micota.compose(words, "evaluate")
    [node] = graph.evaluation(config)
    return config, node


def write_completions(path: Path, size: int) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        for index in range(size):
            text = THOUGHT * random.Random(index).randint(5, 10) + f"\\boxed{{{index % 13}}}"
            handle.write(
                json_line({
                    "problem_id": str(index // 8), "sample": index % 8, "prompt_hash": "", "completion": text,
                    "finish_reason": "stop", "num_prompt_tokens": 9, "num_tokens": len(text), "seconds": 0.1,
                })
            )  # fmt: skip


def write_scores(path: Path, size: int) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        for index in range(size):
            right = index % 13 == 7
            handle.write(
                json_line({
                    "problem_id": str(index // 8), "sample": index % 8, "prediction": str(index % 13),
                    "correct": right, "reason": "rule (boxed)", "answer": "7", "grader": "typed",
                    "graders": {"typed": right, "paper_rule": right}, "finish_reason": "stop", "num_tokens": 400,
                    "group": index % 13,
                })
            )  # fmt: skip


def perform(config: Any, node: AnyNode) -> None:
    from micota.runtime import execute

    execute.perform(config, Store(config.artifacts), tasks_of([node])[0], Console(quiet=True))


CASES: dict[str, tuple[Callable[[int, Path], Prepared], Callable[[int], int]]] = {  # and their size for --rows
    "start": (start, lambda rows: rows),
    "plan": (plan, lambda rows: len(STUDENTS) // 2),
    "discordance": (discordance, lambda rows: rows),
    "sign_test": (sign_test, lambda rows: rows),
    "select": (select, lambda rows: rows),
    "select_long": (select_long, lambda rows: rows),
    "grade": (grade, lambda rows: rows),
    "resume": (resume, lambda rows: rows),
    "report": (report, lambda rows: rows),
    "compare": (scale_report.compare, lambda rows: rows),
    "matched": (scale_report.matched, lambda rows: rows),
    "curriculum": (scale_report.curriculum, lambda rows: rows),
    "forecast": (scale_report.forecast, lambda rows: rows // 1000),
    "page": (scale_report.page, lambda rows: rows // 5000),
}


STAGES = {"select": ["select"], "select_long": ["select"], "grade": ["grade"], "resume": ["generate"]}


def measured(name: str, size: int) -> tuple[float, float]:
    """CPU seconds of the work, and the peak memory of its process in MB, in a new process."""
    words = [sys.executable, __file__, "--one", name, "--rows", str(size)]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def one(name: str, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = CASES[name][0](size, Path(folder))
        for stage in STAGES.get(name, ()):  # imports take longer than small sizes
            import_module(f"micota.stages.{stage}")
        before = time.process_time() + children()
        work()
        seconds = time.process_time() + children() - before
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row_of(name: str, rows: int) -> str:
    """The row of the table of one case."""
    size = CASES[name][1](rows)
    (seconds, memory), (more_seconds, more_memory) = measured(name, size), measured(name, 2 * size)
    ratio = f"{more_seconds / seconds:.2f}" if seconds > 0.01 else "-"
    return (
        f"| {name} | {size:,} | {seconds:.2f} | {memory:.0f} | {2 * size:,} | {more_seconds:.2f} | {more_memory:.0f} | "
        f"{ratio} | {more_memory / memory:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="names of cases, with commas")
    parser.add_argument("--rows", type=int, default=50_000, help="the size that is doubled")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.rows)
        return
    print("| | size | CPU, s | memory, MB | size | CPU, s | memory, MB | ratio of CPU | ratio of memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.only.split(","):
        print(row_of(name, options.rows), flush=True)


if __name__ == "__main__":
    main()
