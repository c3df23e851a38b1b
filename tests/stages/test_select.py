from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from micota import graph
from micota.artifacts import row_files
from micota.artifacts.jsonl import read_jsonl, write_jsonl, write_text
from micota.artifacts.manifest import Manifest
from micota.artifacts.row_files import RowFiles
from micota.artifacts.store import Store
from micota.config import (
    EvaluationConfig,
    ModelConfig,
    QuestionsConfig,
    SamplingConfig,
    SelectConfig,
    SourceConfig,
    ThinkingConfig,
)
from micota.data.datacard import CARD, CARD_PAGE
from micota.data.decontamination import Match
from micota.grading.graders import Graders
from micota.graph import CompletionsSpec, Prompt, source
from micota.graph.node import Node
from micota.graph.specs import FilteredSpec
from micota.records import BPC, COMPLETIONS, DATA, Completion, Example, ExampleScore, Problem, Verdict
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of
from micota.stages.select import CONTAMINATION, example_of, judged, keep, select
from micota.tracking import NoRun

SELECT = SelectConfig(filters=["finished", "correct", "length"], max_tokens=10)
SPEC = FilteredSpec(
    recipe="strong",
    problems=SourceConfig(path="x"),
    decontaminate_against={},
    prompt=Prompt(template="{problem}?", system=None),
    select=SELECT,
    thinking=ThinkingConfig(),
    seed=0,
)
PROMPTED = CompletionsSpec(
    questions=QuestionsConfig(path="x"),
    prompt=SPEC.prompt,
    sampling=SamplingConfig(max_tokens=99),
    thinking=ThinkingConfig(),
    engine="hf",
    dtype="float32",
    extra_body={},
    seed=None,
)
HELD_OUT = [
    {"id": "a", "problem": "Compute $\\frac{1}{2} + \\frac{1}{3}$ in lowest terms.", "answer": "5/6"},
    {"id": "b", "problem": "How many primes below 40 leave the remainder 3 when divided by 7?", "answer": "3"},
]
POOL = [
    {"id": "fresh", "problem": "A rope of 12 metres is cut into 3 equal pieces. How long is each?", "answer": "4"},
    {"id": "template", "problem": "How many primes below 50 leave the remainder 2 when divided by 9?", "answer": "4"},
    {"id": "same", "problem": "compute $\\dfrac12+\\dfrac13$ in lowest terms", "answer": "\\frac{5}{6}"},
    {
        "id": "reworded",
        "problem": "Of the primes below 40, how many leave a remainder of 3 on division by 7?",
        "answer": "3",
    },
]
PROBLEMS = {str(i): Problem(id=str(i), problem=f"p{i}", answer="7") for i in range(6)}


def completion(problem: int, text: str, reason: str = "stop", tokens: int = 5) -> Completion:
    return Completion(
        problem_id=str(problem), sample=0, prompt_hash="h", completion=text, finish_reason=reason,
        num_prompt_tokens=3, num_tokens=tokens, seconds=0.1,
    )  # fmt: skip


def kept_of(
    rows: list[Completion], spec: FilteredSpec, contaminated: dict[str, str]
) -> tuple[list[Example], dict[str, int]]:
    """The examples of completions that pass the filters, and the number dropped for each reason."""
    graded = judged(enumerate(rows), PROBLEMS, EvaluationConfig(num_workers=1))
    kept, dropped = keep(graded, PROBLEMS, spec, contaminated)
    examples = [example_of(rows[stored.position], PROBLEMS, spec) for stored in kept]
    assert [stored[:3] for stored in kept] == [(one.problem_id, one.num_tokens, one.source) for one in examples]
    return examples, dropped


def test_each_drop_has_its_reason_and_filters_go_in_order() -> None:
    rows = [
        completion(0, r"\boxed{7}"),
        completion(1, r"\boxed{8}"),
        completion(2, "no box"),
        completion(3, r"\boxed{7}", reason="length"),
        completion(4, r"\boxed{7}", tokens=11),
        completion(5, r"\boxed{8}", tokens=11),
    ]
    kept, reasons = kept_of(rows, SPEC, {})
    assert [example.problem_id for example in kept] == ["0"]
    assert kept[0].messages == [{"role": "user", "content": "p0?"}]
    assert reasons == {
        "dropped_incorrect": 2,
        "dropped_no_answer": 1,
        "dropped_not_finished_length": 1,
        "dropped_too_long": 1,
    }
    assert len(kept) + sum(reasons.values()) == len(rows)


def test_contaminated_problems_are_counted_by_rule_and_go_first() -> None:
    rows = [completion(0, r"\boxed{7}"), completion(1, r"\boxed{8}"), completion(2, r"\boxed{7}")]
    kept, dropped = kept_of(rows, SPEC, {"0": "near_duplicate", "1": "exact"})
    assert [example.problem_id for example in kept] == ["2"]
    assert dropped == {"dropped_contaminated_near_duplicate": 1, "dropped_contaminated_exact": 1}


def select_from(folder: Path, decontaminate: str) -> tuple[Manifest, list[Example], list[Match]]:
    """Build data from four answered problems, two of which are in a benchmark, by the real stage."""
    for name, rows in {"pool": POOL, "gsm": HELD_OUT}.items():
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    pool, decontaminate_against = (
        SourceConfig(path=str(folder / f"{name}.jsonl"), id_column="id") for name in ("pool", "gsm")
    )
    select_config = SelectConfig(filters=["correct"], decontaminate=decontaminate)
    spec = replace(
        SPEC,
        problems=pool,
        select=select_config,
        decontaminate_against={"gsm": decontaminate_against} if decontaminate != "none" else {},
    )
    generator = source(ModelConfig(name="teacher", path="hub/teacher"))
    completions = Node(name="teacher@pool", spec=PROMPTED, inputs={"model": generator})
    node = Node(name="strong", spec=spec, inputs={"completions": completions})
    store = Store(folder / "artifacts")
    with store.build(completions, 0) as build:
        assert build is not None
        answers = [replace(completion(0, rf"\boxed{{{row['answer']}}}"), problem_id=row["id"]) for row in POOL]
        write_jsonl(build.path / COMPLETIONS, answers)
    with store.build(node, 0) as build:
        assert build is not None
        config = SimpleNamespace(evaluation=EvaluationConfig(num_workers=1))
        work = SimpleNamespace(store=store, node=node, build=build, config=config, run=NoRun())
        select(work)  # type: ignore[arg-type]
    manifest = store.manifest(node)
    assert manifest is not None
    report = store.path(node) / CONTAMINATION
    examples = read_jsonl(store.path(node) / DATA, Example)
    return manifest, examples, read_jsonl(report, Match) if report.exists() else []


def test_few_completions_are_in_memory_and_earlier_samples_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "MAX_ROWS", 4)
    gc.freeze()  # what there is before is not walked over each time
    before, held = count_completions(), []

    def counted(graders: Graders, rows: list[tuple[Problem, Any]]) -> list[Verdict]:
        held.append(count_completions() - before)
        return typed(graders, rows)

    typed = Graders.typed
    monkeypatch.setattr(Graders, "typed", counted)
    rows = [replace(completion(index % 6, rf"\boxed{{7}} {index // 6}"), sample=5 - index // 6) for index in range(36)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    del rows
    with RowFiles() as files:
        file = files.open(tmp_path / "rows.jsonl")
        samples = sorted((row.sample, position) for position, row in files.each(file, Completion))
        in_order = ((at, files.read(file, at, Completion)) for _, at in samples)
        graded = [(row.sample, verdict.correct) for _, row, verdict in judged(in_order, PROBLEMS, EvaluationConfig())]
    assert graded == [(index // 6, True) for index in range(36)]
    assert len(held) == 9 and max(held) <= 2 * 4


def count_completions() -> int:
    return sum(isinstance(obj, Completion) for obj in gc.get_objects())


def test_data_are_decontaminated_and_every_pair_is_logged(tmp_path: Path) -> None:
    manifest, examples, pairs = select_from(tmp_path, "near_duplicate")
    assert [example.problem_id for example in examples] == ["fresh", "template"]
    assert manifest.counts["completions"] == 4 and manifest.counts["kept"] == 2
    assert manifest.counts["dropped_contaminated_exact"] == manifest.counts["dropped_contaminated_near_duplicate"] == 1
    assert [(pair.problem_id, pair.benchmark, pair.benchmark_id, pair.rule) for pair in pairs] == [
        ("template", "gsm", "b", "similar"),
        ("same", "gsm", "a", "exact"),
        ("reworded", "gsm", "b", "near_duplicate"),
    ]
    assert pairs[1].problem == POOL[2]["problem"] and pairs[1].benchmark_problem == HELD_OUT[0]["problem"]


def test_data_have_a_card_that_accounts_for_every_completion(tmp_path: Path) -> None:
    manifest, examples, _ = select_from(tmp_path, "near_duplicate")
    (folder,) = (tmp_path / "artifacts" / "data").iterdir()
    card = json.loads((folder / CARD).read_text())
    assert card["completions"] == card["num_examples"] + sum(card["dropped"].values()) == 4
    assert card["dropped"] == {"contaminated_exact": 1, "contaminated_near_duplicate": 1} and card[
        "decontaminate_against"
    ] == ["gsm"]
    assert card["num_tokens"]["p50"] == 5 and card["num_tokens"]["total"] == 5 * len(examples)
    generator = card["made_from"][0]
    assert generator["generator"]["path"] == "hub/teacher" and generator["sampling"]["max_tokens"] == 99
    page = (folder / CARD_PAGE).read_text()
    for part in ("data_files: data.jsonl", "`hub/teacher`", "| contaminated exact | -1 |", "| passed | 2 |"):
        assert part in page
    assert {CARD, CARD_PAGE} <= manifest.files.keys()


def test_decontamination_can_be_exact_or_none(tmp_path: Path) -> None:
    (tmp_path / "exact").mkdir()
    manifest, examples, pairs = select_from(tmp_path / "exact", "exact")
    assert [example.problem_id for example in examples] == ["fresh", "template", "reworded"]
    assert "dropped_contaminated_near_duplicate" not in manifest.counts and len(pairs) == 3
    manifest, examples, pairs = select_from(tmp_path, "none")
    assert len(examples) == 4 and pairs == [] and "contamination.jsonl" not in manifest.files


THINKING = ThinkingConfig(open="<think>", close="</think>")


def test_what_is_learnt_of_a_generator_that_thinks_is_an_option() -> None:
    whole = replace(completion(0, "3 and 4\n</think>\n\n\\boxed{7}", tokens=9), prefilled="<think>\n", num_cot_tokens=6)
    endless = replace(completion(1, "\\boxed{7} so", tokens=9), prefilled="<think>\n")
    for form, text, num_tokens in [
        ("tagged", "<think>\n3 and 4\n</think>\n\n\\boxed{7}", 9), ("untagged", "3 and 4\n\n\\boxed{7}", 9),
        ("answer", "\\boxed{7}", 3),
    ]:  # fmt: skip
        spec = replace(SPEC, thinking=THINKING, select=replace(SELECT, thinking=form))
        kept, dropped = kept_of([whole, endless], spec, {})
        assert [(example.completion, example.num_tokens) for example in kept] == [(text, num_tokens)]
        assert dropped == {"dropped_unended_thought": 1}


def test_a_thought_without_the_answer_is_no_target() -> None:
    bare = replace(completion(0, "<think>so</think>\\boxed{7}"), num_cot_tokens=3)
    full = replace(completion(1, "<think>so \\boxed{7}</think>It is \\boxed{7}"), num_cot_tokens=3)
    spec = replace(SPEC, thinking=THINKING, select=replace(SELECT, thinking="cot"))
    kept, dropped = kept_of([bare, full], spec, {})
    assert [(example.completion, example.num_tokens) for example in kept] == [("so \\boxed{7}", 3)]
    assert dropped == {"dropped_no_answer_in_cot": 1}


def test_a_recipe_of_candidates_is_measured_and_chosen_from(composed: Callable[..., Any], tmp_path: Path) -> None:
    """The student decides: the completion that it generates is more likely than noise."""
    prompt = [{"role": "user", "content": "Mia has 3 pens:+4*2 mod 10?"}]
    texts = {
        "short": ["3+4=7.\n7*2=4.\n\\boxed{4}", "4 Hmm 4 Wait 4 4"],
        "micota": ["9 9 9 ok ok 9 Wait", "3+4=7.\n\\boxed{7}"],
    }
    overrides = ["data=most_likely", "~data.parts.strong", "~data.parts.half_size", "select.num_examples=2"]
    for label, rows in texts.items():
        path = tmp_path / f"{label}.jsonl"
        write_jsonl(path, [
            Example(problem_id=str(i), messages=prompt, completion=text, num_tokens=9, source=label)
            for i, text in enumerate(rows)
        ])  # fmt: skip
        overrides += [f"data.parts.{label}.generator=none", f"data.parts.{label}.path={path}"]
    config = composed("generate", "experiment=tiny", "tracker=none", *overrides)
    node = graph.data(config, config.data)
    store = Store(tmp_path / "artifacts")
    [task] = tasks_of(graph.unique([node]))
    manifest = perform(config, store, task, Console(quiet=True))[-1]
    chosen = read_jsonl(store.path(node) / DATA, Example)
    assert sorted((example.problem_id, example.source) for example in chosen) == [("0", "short"), ("1", "micota")]
    assert manifest.counts == {"candidates": 4, "from_short": 1, "from_micota": 1, "examples": 2}
    likelihoods = read_jsonl(store.path(node.inputs["likelihood_of_short"]) / BPC, ExampleScore)
    assert likelihoods[0].bits_per_byte < likelihoods[1].bits_per_byte
    page = (store.path(node) / CARD_PAGE).read_text()
    assert "fewest bits per byte" in page and "likelihood of short: bpc" in page
