"""Problems and a model -> raw completions."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

from micota.artifacts.appending import JsonlAppender
from micota.artifacts.jsonl import each_jsonl
from micota.data.sources import load_questions
from micota.engines.base import Priced, Request
from micota.engines.evaluator import answers, requests_for
from micota.graph import CompletionsSpec
from micota.records import COMPLETIONS, Completion
from micota.runtime.inputs import engine_for, model_location
from micota.runtime.progress import show_progress
from micota.runtime.work import Work
from micota.sft.skeletons import shape_at

logger = logging.getLogger(__name__)


def generate(work: Work[CompletionsSpec]) -> None:
    """Generate the completions of every problem. They are appended as they finish, and a restart generates only those
    that are missing.

    Raises:
        ArtifactError: the disk is full; completions that had finished are kept.
    """
    spec = work.node.spec
    problems = load_questions(spec.questions)
    path = work.build.path / COMPLETIONS
    appender = JsonlAppender(path)
    done, finished = set(), Counter[str]()  # the texts of a long run do not fit into memory
    for row in each_jsonl(path, Completion):
        done.add((row.problem_id, row.sample))
        finished[row.finish_reason] += 1
    engine = engine_for(work.store, work.node.inputs["model"], work.config.engine)
    requests, prompts = requests_for(spec, problems, engine, for_training=work.node.command == "generate")
    if isinstance(engine, Priced):
        engine.account.start_with(each_jsonl(path, Completion))
    requested = len(problems) * spec.sampling.num_samples
    work.build.counts |= {"requested": requested, "resumed": len(done), "prompt_too_long": requested - len(requests)}
    requests = [replace(request, done=request.id in done) for request in requests]
    with show_progress(work, len(requests), each_jsonl(path, Completion)) as progress:
        for row in answers(spec, requests, prompts, engine):
            appender.append([row])
            done.add((row.problem_id, row.sample))
            finished[row.finish_reason] += 1
            progress.add(row)
    appender.close()
    _check_complete(requests, done, path)
    work.build.counts |= {f"finish_{reason}": count for reason, count in finished.items()}
    work.build.metrics |= progress.metrics() | ({"cost": engine.account.spent} if isinstance(engine, Priced) else {})
    if not work.config.engine.is_elsewhere:
        shape = shape_at(model_location(work.store, work.node.inputs["model"]))
        spent = (
            shape.forward_flops([row.num_prompt_tokens + row.num_tokens], row.num_tokens)
            for row in each_jsonl(path, Completion)
        )
        work.build.metrics["flops_generate"] = sum(spent)
    logger.info("%s: %d completions, %s", work.node.name, len(done), work.build.metrics)


def _check_complete(requests: list[Request], done: set[tuple[str, int]], path: Path) -> None:
    gaps = {request.id for request in requests} ^ done
    assert not gaps, f"{path}: ids of requests and of completions differ: {sorted(gaps)[:3]}"
