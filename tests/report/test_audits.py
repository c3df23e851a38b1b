"""Audits of determinism on the page: those of its models, wherever an evaluation was repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from micota.artifacts.jsonl import write_jsonl
from micota.artifacts.store import Store
from micota.config import Call
from micota.graph.node import Node
from micota.graph.specs import DeterminismSpec
from micota.records import REPETITIONS, Repetition
from micota.report.audits import audits_of
from micota.report.collect import CaseReport
from micota.report.page import render_page

Finished = tuple[Store, CaseReport]
ROW = Repetition(
    label="batch of 1", engine="hf", batch_size=1, num_threads=1, against="first", num_answers=8, num_correct=4,
    num_answers_differ=2, num_scores_differ=1,
)  # fmt: skip
ABSENT = Repetition(
    label="engine=vllm", engine="", batch_size=0, num_threads=0, against=None, left_out="not here"
)  # fmt: skip


def test_the_page_shows_the_audits_of_its_models(finished: Finished, tmp_path: Path) -> None:
    made, case = finished
    store, by_seed = Store(tmp_path), case.by_seed
    assert audits_of(store, by_seed.values()) == []
    teacher = next(iter(by_seed.values())).teacher.values()
    for graded in teacher:
        answers = graded.inputs["completions"]
        spec = DeterminismSpec(
            answers=answers.spec, problems=graded.spec.problems, grader="typed", batch_sizes=[1], num_threads=[1],
            engines=[], left_out={},
        )  # fmt: skip
        other = {"model": replace(answers.inputs["model"], spec=replace(answers.inputs["model"].spec, path="a/b"))}
        for inputs in (answers.inputs, other):
            audit: Node[DeterminismSpec] = Node(name=answers.name, spec=spec, inputs=inputs)
            with store.build(audit, 0) as build:
                assert build is not None
                write_jsonl(build.path / REPETITIONS, [ROW, ABSENT])
    damaged = store.root / "determinism" / "damaged-0123456789" / "manifest.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    audits = audits_of(store, by_seed.values())
    assert [audit.rows for audit in audits] == [[ROW, ABSENT]] * len(teacher)
    shown = replace(case, summary=replace(case.summary, audits=audits))
    html = render_page("tiny", [shown], made, seed=0, call=Call())
    assert "left out: not here" in html and ">25.0<" in html and ">12.5<" in html
